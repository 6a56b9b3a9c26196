"""Keys and values of rows that are being decoded: allocated once, one slot for each token.

Rows are ragged and each has a position of its own. A row that ends is overwritten by the last one,
so that the rows still alive stay together and nothing else is moved.
"""

import torch


def computed_in(tensor: torch.Tensor) -> torch.dtype:
    """In what precision a tensor is multiplied: under autocast not in its own."""
    device = tensor.device.type
    if tensor.is_floating_point() and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return tensor.dtype


class DecodingCache:
    """Cached keys and values of every attention layer.

    Legend: rows = completions under way; heads = key-value heads; capacity = longest prompt and
    completion together.
    """

    def __init__(self, lengths: list[int], *, new_tokens: int, device: torch.device) -> None:
        """Make room; the tensors themselves appear when a layer first fills them."""
        self._capacity = max(lengths) + new_tokens
        # By layer, (rows, heads, capacity, head).
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        counts = torch.tensor(lengths, device=device)
        self.lengths = counts
        self._row_of_token = torch.repeat_interleave(
            torch.arange(len(counts), device=device), counts
        )
        self._place_of_token = torch.cat([torch.arange(n, device=device) for n in lengths])
        self._rows = torch.arange(len(counts), device=device)
        self._width = max(lengths)
        self._masks: dict[int | None, torch.Tensor] = {}

    def fill(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the packed prompts' keys and values, (1, heads, tokens, head) each."""
        rows = len(self.lengths)
        where = (self._row_of_token, slice(None), self._place_of_token)
        for stored, new in ((self._keys, key), (self._values, value)):
            shape = rows, new.shape[1], self._capacity, new.shape[3]
            stored[layer] = new.new_zeros(shape, dtype=computed_in(new))  # cast once, not a step
            stored[layer][where] = new[0].transpose(0, 1).to(stored[layer].dtype)

    def begin_step(self) -> None:
        """Say that one more token of each row is about to come, at index `lengths`."""
        self._width += 1
        self._masks.clear()

    def end_step(self) -> None:
        """Count the tokens that came."""
        self.lengths = self.lengths + 1

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        """Store one token of each row and let it see its own row's past.

        Args:
            layer: Index of the attention layer.
            query: (rows, query heads, 1, head).
            key: (rows, heads, 1, head).
            value: (rows, heads, 1, head).
            scaling: Of the scores; 1 / sqrt(head) where not given.
            window: How many tokens are seen at most, the new one included.
            softcap: Of the scores, softcap * tanh(scores / softcap), if given.

        Returns:
            (rows, 1, query heads, head).
        """
        keys, values = self._keys[layer], self._values[layer]
        rows, heads, _, size = key.shape
        keys[self._rows, :, self.lengths] = key[:, :, 0].to(keys.dtype)
        values[self._rows, :, self.lengths] = value[:, :, 0].to(values.dtype)
        grouped = query.reshape(rows, heads, -1, size) * (
            size**-0.5 if scaling is None else scaling
        )
        scores = torch.matmul(grouped, keys[:rows, :, : self._width].transpose(2, 3))
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weights = (scores + self._mask(window, scores.dtype)).softmax(-1, dtype=torch.float32)
        return torch.matmul(weights.to(value.dtype), values[:rows, :, : self._width]).reshape(
            rows, 1, -1, value.shape[3]
        )

    def keep(self, alive: torch.Tensor) -> torch.Tensor:
        """Drop the rows that have ended.

        Args:
            alive: (rows,) bool.

        Returns:
            (rows left,) which old row now stands where; select everything else by it.
        """
        left = int(alive.sum())
        order = torch.arange(left, device=alive.device)
        holes = (~alive[:left]).nonzero().flatten()
        movers = alive[left:].nonzero().flatten() + left
        order[holes] = movers
        for tensors in (self._keys, self._values):
            for tensor in tensors.values():
                tensor[holes] = tensor[movers]
        self.lengths = self.lengths[order]
        self._rows = self._rows[:left]
        self._width = int(self.lengths.max()) if left else 0
        return order

    def _mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """0 where a row may look and -inf elsewhere, (rows, 1, 1, width)."""
        if window not in self._masks:
            places = torch.arange(self._width, device=self.lengths.device)
            seen = places <= self.lengths[:, None]
            if window is not None:
                seen &= places > self.lengths[:, None] - window
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            self._masks[window] = mask.masked_fill_(~seen, float("-inf"))[:, None, None]
        return self._masks[window]
