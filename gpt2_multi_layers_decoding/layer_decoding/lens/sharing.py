"""Models that share their weights with another model and differ from it in a few modules."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_modules(model: "PreTrainedModel", replaced: Mapping[str, torch.nn.Module]) -> "PreTrainedModel":
    """A model that shares everything with another but the modules at some dotted paths; that one stays as it was.

    What is one module in several places stays one.
    """
    twins: dict[str, Any] = {"": shallow_copy(model)}
    copies: dict[torch.nn.Module, torch.nn.Module] = {}  # and each copy by itself
    for path, module in replaced.items():
        *parents, name = path.split(".")
        above = ""
        for part in parents:
            here = f"{above}.{part}" if above else part
            if here not in twins:
                child = twins[above]._modules[part]
                if child not in copies:
                    copied = shallow_copy(child)
                    copies |= {child: copied, copied: copied}
                twins[here] = twins[above]._modules[part] = copies[child]
            above = here
        twins[above]._modules[name] = module
    whole: PreTrainedModel = twins[""]
    return whole


def shallow_copy(module: Any) -> Any:
    """A module that shares parameters and children with another, but not the tables that name them, or its hooks."""
    copied = copy.copy(module)
    copied.__dict__.update({name: table.copy() for name, table in vars(module).items() if isinstance(table, dict)})
    _hook_again(copied)
    return copied


def _hook_again(copied: Any) -> None:
    """Accelerate wraps the `forward` of a module that it places; a copy needs a wrapper of its own."""
    hook = copied.__dict__.pop("_hf_hook", None)
    if hook is not None:
        from accelerate.hooks import add_hook_to_module

        for wrapped in ("forward", "_old_forward"):
            copied.__dict__.pop(wrapped, None)
        add_hook_to_module(copied, hook)


def set_forward(module: Any, forward: Any) -> None:
    """Give a shallow_copy another `forward`, within what Accelerate does around it."""
    module.__dict__["_old_forward" if "_hf_hook" in module.__dict__ else "forward"] = forward
