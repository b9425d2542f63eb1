"""The two parts of a state: variables for prediction, and the rest."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class StateParts(NamedTuple):
    """A state in two parts that have no array in common.

    Attributes:
      variables: the tree of the arrays that prediction needs.
      training: the other arrays, by their paths in the state.
      join: `(variables, training) -> state`.
    """

    variables: Any
    training: dict[str, Any]
    join: Callable[[Any, dict[str, Any]], Any]


def split_state(state: Any, select_variables: Callable[[Any], Any]) -> StateParts:
    """Splits a state into two parts; each array is in one of them.

    docs/decisions/0016 says why there are two.

    Args:
      state: a tree of arrays or of abstract arrays.
      select_variables: state -> a tree of some of its arrays, unchanged.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = [leaf for _, leaf in paths]
    # Placeholders in place of the arrays show which ones are selected.
    placeholders = [_Placeholder(i) for i in range(len(leaves))]
    picked = select_variables(jax.tree.unflatten(structure, placeholders))
    chosen = [placeholder.index for placeholder in jax.tree.leaves(picked)]
    rest = {
        jax.tree_util.keystr(path, simple=True, separator="."): i
        for i, (path, _) in enumerate(paths)
        if i not in set(chosen)
    }

    def join(variables: Any, training: dict[str, Any]) -> Any:
        found = dict(zip(chosen, jax.tree.leaves(variables), strict=True))
        found |= {i: training[path] for path, i in rest.items()}
        return jax.tree.unflatten(structure, [found[i] for i in range(len(leaves))])

    return StateParts(
        variables=jax.tree.map(lambda leaf: leaves[leaf.index], picked),
        training={path: leaves[i] for path, i in rest.items()},
        join=join,
    )


class _Placeholder:
    """A leaf in place of the array at one index of the flat state."""

    def __init__(self, index: int) -> None:
        self.index = index
