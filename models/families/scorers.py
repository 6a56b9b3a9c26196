"""Score heads of reward models: at a decoder's last token, BERT's CLS, BART's last decoder token.

BERT and BART read a whole text before they score it, each in the way of its paper and through
transformers' own classifier, so what is published loads there too. A decoder is scored by
`models/language/sequences.py`.

Sources: Devlin et al., BERT (2019), section 4.1; Lewis et al., BART (2020), section 3.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

HEADS = {"bert": "classifier", "bart": "classification_head"}
"""Of the types that read a whole text: the name of transformers' head."""


def reads_whole(network: Any) -> bool:
    """Whether a network sees all tokens of a text at once, and its score stands for the whole."""
    return getattr(network.config, "model_type", "") in HEADS


def score_head(network: Any) -> Any:
    """The score head of a reward model; None for a network without one."""
    kind = getattr(getattr(network, "config", None), "model_type", "")
    return getattr(network, HEADS.get(kind, "score"), None)


def whole_scores(network: Any, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Score rows of token ids with a network that reads them whole, the head in float32.

    BERT reads CLS before each row; one that fills the context loses its first token for it.

    Args:
        rows: Each (tokens,) int64.

    Returns:
        (rows,) float32.
    """
    if network.config.model_type == "bert":
        first = rows[0].new_tensor([network.config.cls_token_id])
        room = network.config.max_position_embeddings - 1
        rows = [torch.cat([first, row[-room:]]) for row in rows]
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    pad = network.config.pad_token_id
    ids = pad_sequence(list(rows), batch_first=True, padding_value=pad)  # (rows, longest)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    read = network.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
    if network.config.model_type == "bert":
        state = read.pooler_output
    else:
        state = read.last_hidden_state[torch.arange(len(rows), device=ids.device), lengths - 1]
    with torch.autocast(ids.device.type, enabled=False):
        scores: torch.Tensor = score_head(network)(state.float())[:, 0]
    return scores
