"""A model taken apart inside its blocks and after them: what each part adds to the state, and that to a logit."""
