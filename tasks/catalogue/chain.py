"""Rows of the chain's stages, from data to the verdict."""

from collections.abc import Mapping

from tasks.catalogue.entries import HELD_OUT, TRAIN, Card, Curve, Entry, KeyMetric


def _reward_card(text: str) -> Card:
    return Card(
        text=text,
        limit="Its score orders completions like those it was trained on; a policy that is "
        "optimised against it will find where it errs.",
        task="text-classification",
        tag="reward-model",
    )


def _policy_card(how: str, tag: str) -> Card:
    return Card(
        text=f"A language model {how}.",
        limit="It was optimised for learned preferences, which are no measure of truth or safety.",
        tag=tag,
    )


CHAIN: Mapping[str, Entry] = {
    "prepare": Entry(
        title="Data",
        detailed=True,
        key_metrics=(KeyMetric("data/demonstrations_rows", "demonstrations", ",.0f"),),
        lineage=("data/corpus_rows", "data/demonstrations_rows", "data/preferences_rows"),
    ),
    "tokenizer": Entry(
        title="Tokenizer",
        key_metrics=(KeyMetric("tokenizer/vocab_size", "tokens", ",.0f"),),
        datasets={"corpus": {"corpus_train": TRAIN}},
    ),
    "pretrain": Entry(
        title="Pretraining",
        detailed=True,
        key_metrics=(
            KeyMetric("pretrain/perplexity", "held-out perplexity", ".2f"),
            KeyMetric("pretrain/masked_accuracy", "masked accuracy"),
            KeyMetric("pretrain/masked_accuracy_unigram", "most frequent token"),
            KeyMetric("pretrain/next_sentence_accuracy", "next-sentence accuracy"),
            KeyMetric("pretrain/next_sentence_majority", "majority"),
            KeyMetric("pretrain/restored_accuracy", "restored accuracy"),
            KeyMetric("pretrain/restored_accuracy_unigram", "most frequent token"),
        ),
        curves=(Curve("pretrain/loss", "Pretraining: loss", "nats per token"),),
        loss_unit="nats per token",
        lineage=("pretrain/parameters", "pretrain/bits_per_byte"),
        role="base",
        card=Card(
            text="A base language model: it continues text and follows no instruction.",
            tag="pretraining",
        ),
    ),
    "sft": Entry(
        title="Supervised fine-tuning",
        key_metrics=(KeyMetric("sft/heldout_perplexity", "held-out perplexity", ".2f"),),
        curves=(Curve("sft/loss", "SFT: loss", "nats per token"),),
        loss_unit="nats per token",
        lineage=("sft/rows", "sft/heldout_perplexity"),
        role="sft",
        also=("base", "policy"),
        card=Card(text="A language model fine-tuned on demonstrations.", tag="sft"),
    ),
    "feedback-samples": Entry(
        title="Samples for people",
        key_metrics=(KeyMetric("feedback_samples/items", "items", ",.0f"),),
        datasets={"prompts": {"prompts_train": TRAIN}},
    ),
    "feedback": Entry(
        title="Feedback",
        key_metrics=(KeyMetric("feedback/annotated", "pairs annotated", ",.0f"),),
        lineage=("feedback/preferences",),
        datasets={"prompts": {"prompts_train": TRAIN, "preferences_train": TRAIN}},
    ),
    "reward": Entry(
        title="Reward model",
        key_metrics=(
            KeyMetric("reward/accuracy", "held-out pair accuracy"),
            KeyMetric("reward/accuracy_low", "95% from"),
            KeyMetric("reward/accuracy_high", "to"),
            KeyMetric("reward/longer_wins_accuracy", "longer wins"),
        ),
        curves=(Curve("reward/train_accuracy", "Reward model: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("reward/pairs", "reward/accuracy"),
        role="reward",
        also=("judge",),
        card=_reward_card(
            "A reward model: one score per completion, learned from pairwise preferences."
        ),
    ),
    "judge": Entry(
        title="Held-out reward model",
        key_metrics=(KeyMetric("judge/accuracy", "held-out pair accuracy"),),
        curves=(Curve("judge/train_accuracy", "Held-out model: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("judge/pairs", "judge/accuracy"),
        role="judge",
        also=("reward",),
        card=_reward_card("A held-out reward model: it judges policies that never saw it."),
    ),
    "reward-quality": Entry(
        title="Reward model quality",
        key_metrics=(
            KeyMetric("reward_quality/over_longer_wins", "accuracy above longer wins", "+.3f"),
            KeyMetric("reward_quality/ece", "calibration error"),
            KeyMetric("reward_quality/gold_best_of_n_gain", "best-of-n gold gain", "+.3f"),
        ),
        judges=True,
        about="reward_model",
    ),
    "ppo": Entry(
        title="PPO",
        key_metrics=(
            KeyMetric("ppo/objective/score_normalised", "last rollout: normalised score", "+.2f"),
            KeyMetric("ppo/objective/kl_to_reference", "KL", ".2f"),
        ),
        curves=tuple(
            Curve(f"ppo/objective/{metric}", f"PPO: {title}", y, "iteration")
            for metric, title, y in (
                ("score", "score by its reward model", "mean score"),
                ("kl_to_reference", "KL to the SFT model", "nats"),
                ("completion_tokens", "length", "tokens"),
                ("distinct_2", "diversity", "distinct-2"),
            )
        ),
        lineage=("ppo/objective/score", "ppo/objective/kl_to_reference"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("aligned by PPO against a reward model", "ppo"),
        networks=("model", "critic"),
        live=True,
    ),
    "dpo": Entry(
        title="DPO",
        key_metrics=(
            KeyMetric("dpo/accuracy", "held-out pair accuracy"),
            KeyMetric("dpo/heldout_loss", "held-out loss"),
        ),
        curves=(Curve("dpo/train_accuracy", "DPO: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("dpo/pairs", "dpo/accuracy"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("aligned by DPO on pairwise preferences", "dpo"),
        datasets={"heldout": {"preferences_heldout": HELD_OUT}},
    ),
    "best-of-n": Entry(
        title="Best of n",
        key_metrics=(
            KeyMetric("best-of-n/score_gain", "chosen above mean: normalised score", "+.2f"),
            KeyMetric("best-of-n/heldout_perplexity", "held-out perplexity", ".2f"),
        ),
        curves=(Curve("best-of-n/loss", "Best of n: loss", "nats per token"),),
        lineage=("best-of-n/prompts", "best-of-n/score_gain"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("fine-tuned on its completions that a reward model liked best", "sft"),
    ),
    "evaluate": Entry(
        title="Evaluation",
        key_metrics=(
            KeyMetric("final/gold_gain", "gold gain", "+.3f"),
            KeyMetric("final/score_gain", "score", "+.3f"),
        ),
        lineage=("final/score_gain", "final/kl_to_reference", "final/win_rate", "final/accepted"),
        final=True,
        datasets={"prompts": {"prompts_heldout": HELD_OUT}},
        judges=True,
    ),
    "rounds": Entry(title="Rounds", key_metrics=(KeyMetric("improve/win_rate", "win rate"),)),
}
