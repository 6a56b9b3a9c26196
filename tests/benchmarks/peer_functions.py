"""What the peer's own functions say of given rows; run by `agreement.py`.

python peer_functions.py CASE.pt ANSWER.pt
"""

import os
import sys
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
from networks import roles
from trl.experimental.ppo.ppo_trainer import forward, masked_whiten
from trl.experimental.utils import get_reward
from trl.trainer.utils import selective_log_softmax
from workloads import PAD_ID


def answer(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Compute in TRL's layout: prompts padded on the left, completions on the right."""
    networks = roles("S")
    prompts, completions = case["prompts"], case["completions"]
    context = max(map(len, prompts))
    longest = max(map(len, completions))
    rows = torch.tensor(
        [
            [PAD_ID] * (context - len(prompt)) + prompt + ids + [PAD_ID] * (longest - len(ids))
            for prompt, ids in zip(prompts, completions, strict=True)
        ]
    )
    mask = torch.arange(longest) < torch.tensor([len(ids) for ids in completions])[:, None]
    logits = forward(networks.actor, rows, PAD_ID).logits[:, context - 1 : -1]
    logprobs = selective_log_softmax(logits / case["temperature"], rows[:, context:])
    logprobs = torch.where(mask, logprobs, 0.0)
    (logprobs * case["weights"]).sum().backward()
    with torch.no_grad():
        values, _, _ = get_reward(networks.critic, rows, PAD_ID, context)
        # One more column of padding: TRL looks for the first one behind a completion.
        wider = torch.cat([rows, torch.full((len(rows), 1), PAD_ID)], dim=1)
        _, scores, _ = get_reward(networks.reward_model, wider, PAD_ID, context)
    return {
        "logprobs": logprobs.detach(),
        "gradient": networks.actor.model.layers[0].self_attn.q_proj.weight.grad,
        "values": torch.where(mask, values[:, context - 1 : -1, 0], 0.0),
        "scores": scores,
        "whitened": torch.where(mask, masked_whiten(case["weights"], mask), 0.0),
    }


if __name__ == "__main__":
    torch.save(answer(torch.load(sys.argv[1], weights_only=True)), sys.argv[2])
