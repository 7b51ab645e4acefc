"""Means and covariances of hidden states, streamed: what a linear map from every layer to the last is fitted from.

Sums in float64 and nothing else are kept, D² numbers a layer, twice, however long the text.
"""

import torch


class Moments:
    """Sums over positions of x, x xᵀ and x yᵀ: x the hidden states of N layers, y those of the last layer."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, hidden: torch.Tensor) -> None:
        """Take hidden states [S, N + 1, D], the last layer's in the last row."""
        # Layers first. MPS has no float64.
        rows = (hidden.cpu() if hidden.device.type == "mps" else hidden).double().transpose(0, 1)
        if not self.count:
            self._begin(rows)
        # A sum of squares far from zero loses the small differences that matter: a first guess of the mean goes first.
        rows = rows - self.guess
        x, y = rows[:-1], rows[-1]
        self.sums += rows.sum(1)
        self.squares.baddbmm_(x.mT, x)
        self.products.baddbmm_(x.mT, y.expand(len(x), -1, -1))
        self.count += len(y)

    def _begin(self, rows: torch.Tensor) -> None:
        layers, _, width = rows.shape
        self.guess = rows.mean(1, keepdim=True)  # [N + 1, 1, D]
        self.sums = rows.new_zeros(layers, width)
        self.squares = rows.new_zeros(layers - 1, width, width)
        self.products = rows.new_zeros(layers - 1, width, width)

    def means(self) -> torch.Tensor:
        """[N + 1, D], the last layer's in the last row."""
        return self.guess[:, 0] + self.sums / self.count

    def solve(self, penalty: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """A [N, D, D] and b [N, D] with the least mean of |A x + b - y|² + penalty · (mean variance of x) · |A|².

        Directions in which x does not vary get nothing from A, as in a solution of least norm.
        """
        centre = self.sums / self.count  # from the guess
        means, matrices = self.means(), torch.empty_like(self.squares)
        for number, (squares, products) in enumerate(zip(self.squares, self.products, strict=True)):
            covariance = squares / self.count - torch.outer(centre[number], centre[number])
            crossed = products / self.count - torch.outer(centre[number], centre[-1])
            matrices[number] = _ridge(covariance, crossed, penalty).T
        biases = means[-1] - (matrices @ means[:-1, :, None])[..., 0]
        return matrices, biases


def _ridge(covariance: torch.Tensor, crossed: torch.Tensor, penalty: float) -> torch.Tensor:
    """(covariance + penalty · its mean variance)⁻¹ crossed: [D, D], by eigenvectors."""
    values, vectors = torch.linalg.eigh(covariance)
    noise = values[-1] * len(values) * torch.finfo(values.dtype).eps
    inverse = torch.where(values > noise, 1 / (values + penalty * values.mean()), 0.0)
    solution: torch.Tensor = (vectors * inverse) @ (vectors.T @ crossed)
    return solution
