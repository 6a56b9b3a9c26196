"""Sentences of a dozen languages, recombined from phrases so that no two rows are equal."""

import itertools
from typing import NamedTuple


class Language(NamedTuple):
    """Phrases of one language, and the encodings in which its files arrive.

    Attributes:
        who: Subjects.
        what: Predicates that fit each of them.
        when: Endings that fit each of these.
        space: What stands between the phrases.
        encodings: Legacy encodings, as Python names them.
    """

    who: tuple[str, ...]
    what: tuple[str, ...]
    when: tuple[str, ...]
    encodings: tuple[str, ...]
    space: str = " "

    def sentences(self, count: int, *, long: bool) -> list[str]:
        """Different texts: a sentence each, or three of them."""
        several = 3 if long else 1
        every = [self.space.join(one) for one in itertools.product(self.who, self.what, self.when)]
        step = 37  # no divisor of 6 * 6 * 6
        order = [every[step * n % len(every)] for n in range(len(every))]
        return [
            self.space.join(order[(n + k) % len(order)] for k in range(several))
            for n in range(count)
        ]


LANGUAGES = {
    "Chinese": Language(
        ("我的邻居", "那位老师", "小店的老板", "她的弟弟", "几个学生", "楼下的医生"),
        (
            "把旧自行车修好了，",
            "买了三斤新鲜的苹果，",
            "给花园浇了水，",
            "写了一封很长的信，",
            "煮了一锅热汤，",
            "学会了用毛笔写字，",
        ),
        (
            "昨天晚上才告诉我。",
            "大家都觉得很高兴。",
            "然后就回家休息了。",
            "可是没有人注意到。",
            "今天又重新开始。",
            "真是出乎意料。",
        ),
        ("gbk", "gb18030", "gb2312"),
        "",
    ),
    "Chinese, traditional": Language(
        ("我的鄰居", "那位老師", "小店的老闆", "她的弟弟", "幾個學生", "樓下的醫生"),
        (
            "把舊腳踏車修好了，",
            "買了三斤新鮮的蘋果，",
            "給花園澆了水，",
            "寫了一封很長的信，",
            "煮了一鍋熱湯，",
            "學會了用毛筆寫字，",
        ),
        (
            "昨天晚上才告訴我。",
            "大家都覺得很高興。",
            "然後就回家休息了。",
            "可是沒有人注意到。",
            "今天又重新開始。",
            "真是出乎意料。",
        ),
        ("big5", "cp950", "big5hkscs"),
        "",
    ),
    "Japanese": Language(
        ("隣の人は", "あの先生は", "店の主人は", "妹は", "学生たちは", "カメラマンは"),
        (
            "古い自転車を直して、",
            "新鮮なりんごを買って、",
            "庭に水をやって、",
            "長い手紙を書いて、",
            "スープを温めて、",
            "筆で字を書くことを覚えて、",
        ),
        (
            "昨日の夜に話してくれました。",
            "みんなとても喜びました。",
            "それから家へ帰りました。",
            "だれも気がつきませんでした。",
            "今日もまた始めるつもりです。",
            "本当にびっくりした。",
        ),
        ("shift_jis", "cp932", "euc_jp", "iso2022_jp"),
        "",
    ),
    "Korean": Language(
        ("우리 이웃은", "그 선생님은", "가게 주인은", "여동생은", "학생들은", "아래층 의사는"),
        (
            "낡은 자전거를 고치고",
            "신선한 사과를 사고",
            "정원에 물을 주고",
            "긴 편지를 쓰고",
            "따뜻한 국을 끓이고",
            "붓글씨를 배우고",
        ),
        (
            "어젯밤에 말해 주었어요.",
            "모두 아주 기뻐했습니다.",
            "집으로 돌아갔습니다.",
            "아무도 몰랐습니다.",
            "오늘 다시 시작했어요.",
            "정말 놀라웠습니다.",
        ),
        ("euc_kr", "cp949", "johab"),
    ),
    "Russian": Language(
        (
            "Наш сосед",
            "Старый учитель",
            "Хозяин лавки",
            "Мой младший брат",
            "Врач с первого этажа",
            "Почтальон",
        ),
        (
            "починил старый велосипед",
            "купил три кило свежих яблок",
            "полил цветы в саду",
            "написал очень длинное письмо",
            "сварил горячий суп",
            "научился красиво писать",
        ),
        (
            "и рассказал об этом вчера вечером.",
            "и все очень обрадовались.",
            "и пошёл домой отдыхать.",
            "но никто этого не заметил.",
            "и сегодня начал снова.",
            "чего никто не ожидал.",
        ),
        ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"),
    ),
    "Polish": Language(
        (
            "Nasz sąsiad",
            "Stary nauczyciel",
            "Właściciel sklepu",
            "Mój młodszy brat",
            "Lekarz z pierwszego piętra",
            "Listonosz",
        ),
        (
            "naprawił żółty rower",
            "kupił świeże jabłka",
            "podlał różę w ogródku",
            "napisał bardzo długi list",
            "ugotował gorącą zupę",
            "nauczył się ładnie pisać",
        ),
        (
            "i opowiedział o tym późnym wieczorem.",
            "więc wszyscy się ucieszyli.",
            "a potem wrócił odpocząć.",
            "lecz nikt tego nie zauważył.",
            "i dziś zaczął znów.",
            "czego się nikt nie spodziewał, jeśli dobrze pamiętam.",
        ),
        ("cp1250", "iso8859_2", "mac_latin2", "cp852"),
    ),
    "French": Language(
        (
            "Notre voisin âgé",
            "La maîtresse d'école",
            "Le gérant du café",
            "Mon frère cadet",
            "Le médecin d'à côté",
            "Hélène",
        ),
        (
            "a réparé le vieux vélo",
            "a acheté trois kilos de pêches mûres",
            "a arrosé le chèvrefeuille",
            "a rédigé une très longue lettre",
            "a préparé un dîner léger",
            "a appris à bien écrire",
        ),
        (
            "et me l'a raconté hier après dîner.",
            "ce qui a plu à tous, même à Noël.",
            "puis est rentré se reposer où il fait frais.",
            "mais personne ne l'a remarqué, hélas.",
            "et a recommencé ce matin très tôt.",
            "ça alors, quelle idée étonnante.",
        ),
        ("cp1252", "latin_1", "mac_roman", "cp850", "iso8859_15"),
    ),
    "Turkish": Language(
        (
            "Yaşlı komşumuz",
            "Öğretmenimiz",
            "Dükkânın sahibi",
            "Küçük kardeşim",
            "Aşağıdaki doktor",
            "Postacı",
        ),
        (
            "eski bisikleti onardı",
            "üç kilo taze şeftali aldı",
            "bahçedeki gülleri suladı",
            "çok uzun bir mektup yazdı",
            "sıcak çorba pişirdi",
            "güzel yazmayı öğrendi",
        ),
        (
            "ve dün akşam bana anlattı.",
            "buna herkes çok sevindi.",
            "sonra dinlenmek için eve döndü.",
            "ama hiç kimse farkına varmadı.",
            "ve bugün yeniden başladı.",
            "bunu kimse beklemiyordu, doğrusu.",
        ),
        ("cp1254", "iso8859_9", "cp857"),
    ),
    "Greek": Language(
        (
            "Ο γείτονάς μας",
            "Ο παλιός δάσκαλος",
            "Ο μαγαζάτορας",
            "Ο μικρός αδελφός μου",
            "Ο γιατρός",
            "Ο ταχυδρόμος",
        ),
        (
            "έφτιαξε το ποδήλατο",
            "αγόρασε φρέσκα μήλα",
            "πότισε τον κήπο",
            "έγραψε ένα γράμμα",
            "μαγείρεψε μια σούπα",
            "έμαθε να γράφει ωραία",
        ),
        (
            "και μου το είπε χθες.",
            "και όλοι χάρηκαν πολύ.",
            "και μετά πήγε σπίτι.",
            "αλλά κανείς δεν το πρόσεξε.",
            "και σήμερα ξανάρχισε.",
            "κάτι που κανείς δεν περίμενε.",
        ),
        ("cp1253", "iso8859_7", "mac_greek"),
    ),
    "Czech": Language(
        (
            "Náš soused",
            "Starý učitel",
            "Majitel krámu",
            "Můj mladší bratr",
            "Lékař z přízemí",
            "Pošťák",
        ),
        (
            "opravil žluté kolo",
            "koupil čerstvé švestky",
            "zalil růži na zahrádce",
            "napsal příliš dlouhý dopis",
            "uvařil horkou polévku",
            "naučil se hezky číst",
        ),
        (
            "a včera večer mi o tom řekl.",
            "a všichni měli radost.",
            "a pak šel domů odpočívat.",
            "ale nikdo si toho nevšiml.",
            "a dnes začal znovu.",
            "což nikdo nečekal, jak říkám.",
        ),
        ("cp1250", "iso8859_2", "cp852"),
    ),
    "German": Language(
        (
            "Unser früherer Nachbar",
            "Die Lehrerin für Übungen",
            "Der Händler aus der Straße",
            "Mein jüngerer Bruder",
            "Die Ärztin",
            "Der Bäcker",
        ),
        (
            "hat das Fahrräderschloss geölt",
            "kaufte süße Äpfel",
            "goss die Blumen für Jörg",
            "schrieb einen schönen Brief",
            "kochte heiße Brühe",
            "übte das Schreiben",
        ),
        (
            "und erzählte es spät abends.",
            "worüber sich alle freuten, natürlich.",
            "und ging müde nach Hause.",
            "aber niemand hörte zu, schade.",
            "und fängt morgen wieder an.",
            "was für eine Überraschung, größer als gedacht.",
        ),
        ("cp1252", "latin_1", "cp850", "mac_roman"),
    ),
    "Vietnamese": Language(
        (
            "Người hàng xóm",
            "Thầy giáo già",
            "Bà chủ quán",
            "Em trai tôi",
            "Bác sĩ",
            "Người đưa thư",
        ),
        (
            "đã sửa chiếc xe đạp",
            "đã mua ba cân táo",
            "đã tưới vườn hoa",
            "đã viết một lá thư dài",
            "đã nấu một nồi canh",
            "đã học viết chữ đẹp",
        ),
        (
            "và kể cho tôi nghe tối qua.",
            "khiến mọi người rất vui.",
            "rồi về nhà nghỉ ngơi.",
            "nhưng không ai để ý.",
            "và hôm nay lại bắt đầu.",
            "thật là bất ngờ.",
        ),
        (),
    ),
    "Ukrainian": Language(
        (
            "Наш сусід",
            "Старий вчитель",
            "Господар крамниці",
            "Мій молодший брат",
            "Лікар",
            "Листоноша",
        ),
        (
            "полагодив старий велосипед",
            "купив їжу й свіжі яблука",
            "полив квіти біля хати",
            "написав дуже довгий лист",
            "зварив гарячий борщ",
            "навчився гарно писати",
        ),
        (
            "і розповів про це ввечері.",
            "і всі дуже зраділи.",
            "і пішов додому відпочити.",
            "але ніхто цього не помітив.",
            "і сьогодні почав знову.",
            "чого ніхто не очікував.",
        ),
        ("cp1251", "koi8_u", "iso8859_5"),
    ),
    "Hebrew": Language(
        ("השכן שלנו", "המורה הזקן", "בעל החנות", "אחי הקטן", "הרופא", "הדוור"),
        (
            "תיקן את האופניים",
            "קנה תפוחים טריים",
            "השקה את הגינה",
            "כתב מכתב ארוך",
            "בישל מרק חם",
            "למד לכתוב יפה",
        ),
        (
            "וסיפר לי על כך אתמול.",
            "וכולם שמחו מאוד.",
            "ואז הלך הביתה.",
            "אבל איש לא שם לב.",
            "והיום התחיל שוב.",
            "וזה הפתיע את כולם.",
        ),
        ("cp1255", "iso8859_8"),
    ),
    "Thai": Language(
        ("เพื่อนบ้านของเรา", "คุณครู", "เจ้าของร้าน", "น้องชายของฉัน", "คุณหมอ", "บุรุษไปรษณีย์"),
        ("ซ่อมจักรยานเก่า", "ซื้อแอปเปิลสด", "รดน้ำต้นไม้", "เขียนจดหมายยาว", "ต้มซุปร้อน", "หัดเขียนหนังสือ"),
        (
            "แล้วเล่าให้ฟังเมื่อคืน",
            "ทุกคนดีใจมาก",
            "แล้วกลับบ้านไปพัก",
            "แต่ไม่มีใครสังเกต",
            "วันนี้เริ่มใหม่",
            "น่าแปลกใจจริง",
        ),
        ("tis_620", "cp874"),
        "",
    ),
}

ENGLISH = Language(
    (
        "Our neighbour",
        "The old teacher",
        "The shop's owner",
        "My younger brother",
        "The doctor",
        "The postman",
    ),
    (
        "mended the old bicycle",
        "bought three pounds of apples",
        "watered the garden",
        "wrote a very long letter",
        "cooked a pot of soup",
        "learned to write well",
    ),
    (
        "and told me last night.",
        "and everyone was glad.",
        "and then went home to rest.",
        "but nobody noticed.",
        "and began again today.",
        "which nobody had expected.",
    ),
    (),
)
