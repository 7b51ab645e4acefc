"""A given text: what every layer says along some of its tokens, and how it does on average over all of them."""
