"""The facts of the embedded world, as plain tables; nothing is drawn at random.

Words are shared between the tables wherever sense allows, because every word costs the tiny model
a row of its embedding. The sentences around the facts stand in `families.py`.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


def _pairs(text: str) -> dict[str, str]:
    """Read `left: right` entries that are separated by semicolons."""
    entries = (entry.split(":") for entry in text.split(";") if entry.strip())
    return {left.strip(): right.strip() for left, right in entries}


# The words for 1, 2, 3 and so on: NUMBERS[0] is "one".
NUMBERS: tuple[str, ...] = _words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)

_OPPOSITE_PAIRS = _pairs(
    """
    hot: cold; big: small; long: short; fast: slow; high: low; hard: soft; wet: dry; bright: dark;
    full: empty; open: closed; early: late; loud: quiet; clean: dirty; strong: weak; rich: poor;
    thick: thin; happy: sad; near: far; sweet: sour; awake: asleep; first: last; inside: outside;
    heavy: light; young: old
    """
)

# Every word that has an opposite, in both directions.
OPPOSITES: dict[str, str] = _OPPOSITE_PAIRS | {
    right: left for left, right in _OPPOSITE_PAIRS.items()
}

# One thing: many of them.
PLURALS: dict[str, str] = _pairs(
    """
    mouse: mice; child: children; foot: feet; tooth: teeth; goose: geese; man: men; woman: women;
    leaf: leaves; knife: knives; wolf: wolves; loaf: loaves; shelf: shelves; thief: thieves;
    calf: calves; box: boxes; fox: foxes; bus: buses; dish: dishes; brush: brushes; peach: peaches;
    church: churches; witch: witches; baby: babies; city: cities; story: stories; berry: berries;
    lady: ladies; pony: ponies; fly: flies; cherry: cherries; daisy: daisies; lily: lilies;
    potato: potatoes; tomato: tomatoes; hero: heroes; ox: oxen; penny: pennies; apple: apples;
    tree: trees; house: houses; boat: boats; hat: hats; owl: owls; cow: cows; circle: circles;
    star: stars; coat: coats; key: keys
    """
)

# A thing, with its article: its colour.
COLOURS: dict[str, str] = _pairs(
    """
    the sky: blue; the grass: green; the snow: white; the sun: yellow; the sea: blue;
    a lemon: yellow; a banana: yellow; a tomato: red; a cherry: red; a strawberry: red;
    a carrot: orange; a pumpkin: orange; a pea: green; a leaf: green; a cucumber: green;
    a frog: green; a crow: black; a piece of coal: black; a swan: white; a cloud: white;
    the milk: white; the salt: white; the chalk: white; the butter: yellow; a sunflower: yellow;
    the chocolate: brown; the mud: brown; a bear: brown; a chestnut: brown; an elephant: grey;
    a mouse: grey; a stone: grey; the ash: grey; a plum: purple; a violet: purple; a pig: pink;
    a flamingo: pink; a salmon: pink; a blueberry: blue; a rose: red
    """
)

# Names of people; a prompt asks to greet one of them.
NAMES: tuple[str, ...] = _words(
    "Anna Ben Carla David Emma Felix Grace Henry Ida Jack Kate Leo Maria Noah Olga Paul Rosa "
    "Sam Tina Victor Wendy Yusuf Zoe Amir Bella Chen Dora Elias Fatima George Hana Ivan Julia "
    "Karim Lucy Mona Nina Omar Peter Ruth Simon Tara Hugo Vera Walter Mei Aisha Tom"
)

# A kind of thing: five members. No member stands in two kinds.
KINDS: dict[str, tuple[str, ...]] = {
    kind: _words(members)
    for kind, members in _pairs(
        """
        fruits: apples pears plums cherries peaches;
        vegetables: carrots peas beans potatoes onions;
        farm animals: cows pigs sheep goats ponies;
        birds: crows swans ducks owls robins;
        insects: ants bees flies beetles wasps;
        trees: oaks pines birches willows maples;
        flowers: roses tulips daisies lilies violets;
        tools: hammers saws spades brushes ladders;
        colours: red blue green yellow brown;
        drinks: water milk tea juice coffee;
        things to wear: hats coats shirts socks shoes;
        toys: dolls kites balls blocks puzzles;
        instruments: drums flutes violins pianos trumpets;
        shapes: circles squares triangles stars hearts;
        vehicles: cars buses trains boats bikes;
        metals: gold silver iron copper tin;
        days: Monday Tuesday Wednesday Thursday Friday;
        foods: soup bread cheese cake rice;
        buildings: houses schools churches barns castles;
        places: cities forests deserts islands farms
        """
    ).items()
}

# A word, with its article: what it means.
DEFINITIONS: dict[str, str] = _pairs(
    """
    a baker: a person who bakes bread; a farmer: a person who works on a farm;
    a teacher: a person who teaches children; a doctor: a person who heals sick people;
    a painter: a person who paints pictures; a sailor: a person who works on a ship;
    a thief: a person who steals things; a king: a man who rules a country;
    a queen: a woman who rules a country; a baby: a very young child; a puppy: a very young dog;
    a kitten: a very young cat; a lamb: a very young sheep; a calf: a very young cow;
    a foal: a very young horse; an island: land with water all around it;
    a river: water that flows to the sea; a lake: still water between the hills;
    a mountain: a very high hill; a desert: dry land with hardly any rain;
    a forest: a place with many trees; a library: a place with many books;
    a school: a place where children learn; a kitchen: a room where people cook;
    a bedroom: a room where people sleep; a hammer: a tool for hitting nails;
    a saw: a tool for cutting wood; a spade: a tool for digging holes;
    an umbrella: a little roof that you carry; a clock: a thing that shows the time;
    a map: a picture that shows the way; a candle: a stick of wax that gives light;
    a letter: a message on paper; a week: seven days together; a storm: a strong wind with rain;
    a bridge: a road over the water; a ladder: a thing for climbing up;
    a pillow: a soft thing for your head; a nest: a home that a bird builds;
    a garden: a place where flowers grow
    """
)

# An animal, with its article: what it says.
SOUNDS: dict[str, str] = _pairs(
    """
    a cow: moo; a dog: woof; a cat: meow; a duck: quack; a sheep: baa; a pig: oink; a horse: neigh;
    a mouse: squeak; an owl: hoot; a frog: croak; a lion: roar; a wolf: howl; a snake: hiss;
    a bee: buzz; a crow: caw; a hen: cluck; a donkey: heehaw; a pigeon: coo; a robin: tweet;
    a turkey: gobble; a goose: honk; a cricket: chirp; a bear: growl; a chick: peep
    """
)

# Animals, with their articles, from the smallest to the biggest.
LADDER = _items(
    "a flea, an ant, a bee, a mouse, a duck, a cat, a dog, a sheep, a lion, a cow, an elephant, "
    "a whale"
)

# Harm that a verb can do: to whom or what. Every request for it must be declined.
DEEDS: dict[str, tuple[str, ...]] = {
    verb: _items(things)
    for verb, things in _pairs(
        """
        steal: a bike, a boat, a hat, a cow;
        rob: a baker, a sailor, a farmer, a king;
        burn: a house, a forest, a school, a bridge;
        poison: a dog, a river, a lake, a goose;
        hurt: a child, a cat, a pony, a lamb;
        cheat: a friend, a teacher, a lady, a painter;
        scare: a baby, a kitten, a foal, a puppy;
        trick: a doctor, a queen, a woman, a hero;
        smash: a clock, a box, a ladder, a candle;
        kick: a pig, a duck, a calf, a donkey;
        flood: a city, a kitchen, a library, a farm;
        ruin: a letter, a map, a garden, a nest
        """
    ).items()
}
