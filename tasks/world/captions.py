"""Captions of the embedded world, in English and French, and tasks about them; plain tables.

A scene is drawn, and everything else is a view of it: its caption, the translation, and a second
caption that follows from it, contradicts it, or says more. French puts adjectives behind nouns and
lets them agree, so a translation is no word for word copy. A scene with a second half is long.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

Row = dict[str, Any]


def _table(text: str) -> list[tuple[str, ...]]:
    """Rows separated by semicolons, of cells separated by commas."""
    rows = (line.strip() for line in text.split(";"))
    return [tuple(cell.strip() for cell in row.split(",")) for row in rows if row]


def _words(text: str) -> list[str]:
    return text.split()


# English, French, gender, what it is a kind of.
SUBJECTS = _table(
    """
    man, homme, m, person; woman, femme, f, person; boy, garçon, m, child; girl, fille, f, child;
    worker, ouvrier, m, person; player, joueur, m, person; singer, chanteuse, f, person;
    student, étudiante, f, person; soldier, soldat, m, person; dancer, danseuse, f, person;
    climber, grimpeur, m, person; nurse, infirmière, f, person; dog, chien, m, animal;
    cat, chat, m, animal; horse, cheval, m, animal; cow, vache, f, animal; bird, oiseau, m, animal;
    goat, chèvre, f, animal; monkey, singe, m, animal; duck, canard, m, animal
    """
)
# English, French with a masculine noun, French with a feminine one.
QUALITIES = _table(
    """
    tall, immense, immense; proud, fier, fière; old, âgé, âgée; kind, gentil, gentille;
    tired, fatigué, fatiguée; happy, heureux, heureuse; wet, mouillé, mouillée; strong, fort, forte;
    serious, sérieux, sérieuse; curious, curieux, curieuse; quiet, discret, discrète;
    lonely, solitaire, solitaire; muddy, boueux, boueuse; thin, mince, mince
    """
)
COLOURS = _table(
    "red, rouge, rouge; blue, bleu, bleue; green, vert, verte; yellow, jaune, jaune; "
    "purple, violet, violette; orange, orange, orange; grey, gris, grise; pink, rose, rose"
)
# English, French.
ACTIONS = _table(
    """
    running, court; sleeping, dort; jumping, saute; walking, marche; dancing, danse;
    waiting, attend; swimming, nage; playing, joue; eating, mange; resting, se repose;
    drinking, boit; falling, tombe
    """
)
DEEDS = _table(
    """
    holding, tient; watching, regarde; carrying, porte; throwing, lance; catching, attrape;
    pushing, pousse; pulling, tire; cleaning, nettoie
    """
)
# English, French, gender.
THINGS = _table(
    """
    ball, balle, f; guitar, guitare, f; book, livre, m; bag, sac, m; hat, chapeau, m;
    bucket, seau, m; stick, bâton, m; box, boîte, f; chair, chaise, f; rope, corde, f;
    kite, cerf-volant, m; bicycle, vélo, m; umbrella, parapluie, m; towel, serviette, f
    """
)
PLACES = _table(
    """
    in the street, dans la rue; on the beach, sur la plage; in a park, dans un parc;
    near a river, près d'une rivière; under a tree, sous un arbre; on a bridge, sur un pont;
    in front of a house, devant une maison; behind a fence, derrière une clôture;
    in the snow, dans la neige; on a boat, sur un bateau; in a field, dans un champ;
    at the station, à la gare; next to a car, à côté d'une voiture; on the stairs, sur les marches
    """
)

GOOD = _words("charming clever moving funny brilliant warm thrilling elegant fresh honest")
BAD = _words("dull clumsy tedious bland silly messy hollow predictable lifeless shallow")
PARTS = _words("story cast ending script music pace dialogue camera hero mood")


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption tells of; rows of the tables. Without a deed there is no thing."""

    subject: tuple[str, ...]
    quality: tuple[str, ...] | None
    action: tuple[str, ...]
    deed: bool
    thing: tuple[str, ...]
    colour: tuple[str, ...] | None
    place: tuple[str, ...] | None


def draw_scene(rng: random.Random) -> Scene:
    """Draw a scene."""
    deed = rng.random() < 0.5
    return Scene(
        subject=rng.choice(SUBJECTS),
        quality=rng.choice(QUALITIES) if rng.random() < 0.6 else None,
        action=rng.choice(DEEDS if deed else ACTIONS),
        deed=deed,
        thing=rng.choice(THINGS),
        colour=rng.choice(COLOURS) if rng.random() < 0.6 else None,
        place=rng.choice(PLACES) if rng.random() < 0.7 else None,
    )


def english(scene: Scene, verb: str = "is") -> str:
    """A scene in English, without capital letter and full stop."""
    return " ".join(filter(None, (_english_subject(scene), verb, _english_rest(scene))))


def _english_subject(scene: Scene) -> str:
    words = f"{scene.quality[0]} {scene.subject[0]}" if scene.quality else scene.subject[0]
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _english_rest(scene: Scene) -> str:
    parts = [scene.action[0]]
    if scene.deed:
        thing = f"{scene.colour[0]} {scene.thing[0]}" if scene.colour else scene.thing[0]
        parts.append(f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}")
    return " ".join([*parts, *([scene.place[0]] if scene.place else [])])


def french(scene: Scene) -> str:
    """The same in French."""
    parts = [_french_noun(scene.subject, scene.quality), scene.action[1]]
    if scene.deed:
        parts.append(_french_noun(scene.thing, scene.colour))
    return " ".join([*parts, *([scene.place[1]] if scene.place else [])])


def _french_noun(noun: tuple[str, ...], adjective: tuple[str, ...] | None) -> str:
    feminine = noun[2] == "f"
    words = [noun[1]] if adjective is None else [noun[1], adjective[1 + feminine]]
    return " ".join(["une" if feminine else "un", *words])


def sentence(text: str) -> str:
    """Begin with a capital letter and end with a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def write_captions(count: int, rng: random.Random) -> list[Row]:
    """Captions with their translations, two in five of them long.

    Returns:
        {"source", "target"}; no caption stands there twice.
    """
    rows: dict[str, Row] = {}
    while len(rows) < count:
        scenes = [draw_scene(rng) for _ in range(2 if rng.random() < 0.4 else 1)]
        source = sentence(" while ".join(map(english, scenes)))
        rows[source] = {
            "source": source,
            "target": sentence(" pendant que ".join(map(french, scenes))),
        }
    return list(rows.values())


def write_entailment(rng: random.Random) -> Row:
    """A caption and a second one that follows, adds something, or contradicts, equally often."""
    scene, label = draw_scene(rng), rng.randrange(3)
    if label == 0:
        scene = replace(scene, quality=scene.quality or rng.choice(QUALITIES))
        other = rng.choice(
            (
                english(replace(scene, quality=None)),
                english(replace(scene, quality=None, subject=(scene.subject[3], "", "m", ""))),
                english(replace(scene, quality=None, place=None)),
            )
        )
    elif label == 1:
        quality = rng.choice([one for one in QUALITIES if one != scene.quality])
        place = rng.choice([one for one in PLACES if one != scene.place])
        added = (
            replace(scene, quality=quality) if rng.random() < 0.5 else replace(scene, place=place)
        )
        other = english(added)
    elif rng.random() < 0.5:
        other = f"there is no {scene.subject[0]} {_english_rest(scene)}"
    else:
        possible = [one for one in (DEEDS if scene.deed else ACTIONS) if one != scene.action]
        other = english(replace(scene, quality=None, action=rng.choice(possible)))
    return {"texts": [sentence(english(scene)), sentence(other)], "label": label}


def write_similarity(rng: random.Random) -> Row:
    """Two captions and how much of the first is left in the second, 1 to 5."""
    scene, fresh = draw_scene(rng), draw_scene(rng)
    changed = rng.sample(("subject", "quality", "action", "place"), rng.randrange(5))
    other = replace(
        scene,
        subject=fresh.subject if "subject" in changed else scene.subject,
        quality=fresh.quality if "quality" in changed else scene.quality,
        place=fresh.place if "place" in changed else scene.place,
    )
    if "action" in changed:
        other = replace(
            other, action=fresh.action, deed=fresh.deed, thing=fresh.thing, colour=fresh.colour
        )
    same = sum(
        getattr(scene, name) == getattr(other, name)
        for name in ("subject", "quality", "action", "place")
    )
    return {"texts": [sentence(english(scene)), sentence(english(other))], "label": 1.0 + same}


def write_opinion(rng: random.Random) -> Row:
    """A sentence on a film: 1 where it likes it. Two words like it or do not, one is denied."""
    label = rng.randrange(2)
    mine, others = (GOOD, BAD) if label else (BAD, GOOD)
    first, second = rng.sample(PARTS, 2)
    text = rng.choice(
        (
            f"the {first} is {rng.choice(mine)} and the {second} is {rng.choice(mine)}",
            f"a {rng.choice(mine)} {first} , and the {second} is never {rng.choice(others)}",
            f"the {first} may be {rng.choice(others)} , but the film is {rng.choice(mine)} and "
            f"{rng.choice(mine)}",
            f"not {rng.choice(others)} at all : the {first} is {rng.choice(mine)}",
        )
    )
    return {"texts": [sentence(text)], "label": label}
