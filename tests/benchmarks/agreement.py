"""Compare PPO's building blocks with those of TRL 1.12, function by function, on the same rows.

    python tests/benchmarks/agreement.py [--peer-env FOLDER]

Logprobs at a temperature, their gradient, values, scores, whitening. Ends with status 1 if any
number differs by more than 1e-4 of the largest. What TRL does otherwise on purpose or by mistake
(the score behind the last token, sums over padding) is left out.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from networks import roles
from peer_env import DEFAULT_FOLDER, peer_python
from workloads import FIRST_WORD_ID, SIZES

from models.language.sequences import (
    Sequences,
    TokenDistribution,
    sequence_scores,
    token_logprobs,
    token_values,
)
from models.ppo.advantages import whiten

TOLERANCE = 1e-4
HERE = Path(__file__).parent


def make_case() -> dict:
    """Draw ragged rows, a temperature and weights for a gradient."""
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        last = SIZES["S"].vocabulary
        return torch.randint(FIRST_WORD_ID, last, (length,), generator=generator).tolist()

    completions = [tokens(1, 41) for _ in range(12)]
    longest = max(map(len, completions))
    return {
        "prompts": [tokens(1, 33) for _ in range(12)],
        "completions": completions,
        "temperature": 0.7,
        "weights": torch.randn(12, longest, generator=generator),
    }


def own_answer(case: dict) -> dict[str, torch.Tensor]:
    """The same numbers from packed rows."""
    networks = roles("S")
    rows = Sequences.from_lists(case["prompts"], case["completions"])
    distribution = TokenDistribution(temperature=case["temperature"])
    logprobs = token_logprobs(networks.actor, rows, distribution=distribution).logprobs
    (logprobs * case["weights"]).sum().backward()
    mask = rows.completion_mask
    counted = int(mask.sum())
    with torch.no_grad():
        return {
            "logprobs": logprobs.detach(),
            "gradient": networks.actor.model.layers[0].self_attn.q_proj.weight.grad,
            "values": token_values(networks.critic, rows),
            "scores": sequence_scores(networks.reward_model, rows),
            # TRL divides by n - 1.
            "whitened": whiten(case["weights"], mask) * math.sqrt((counted - 1) / counted),
        }


def main() -> None:
    """Print the largest difference of each function."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-env", type=Path, default=DEFAULT_FOLDER)
    python = peer_python(parser.parse_args().peer_env)
    case = make_case()
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "case.pt", Path(folder) / "answer.pt"
        torch.save(case, asked)
        subprocess.run([python, HERE / "peer_functions.py", asked, answered], check=True)
        theirs = torch.load(answered, weights_only=True)
    ours, worst = own_answer(case), 0.0
    print(f"{'function':10} {'largest':>10} {'difference':>11}")
    for name, wanted in theirs.items():
        scale = float(wanted.abs().max())
        difference = float((ours[name] - wanted).abs().max())
        worst = max(worst, difference / scale)
        print(f"{name:10} {scale:10.4f} {difference:11.2e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
