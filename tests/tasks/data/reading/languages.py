"""Two hundred plain sentences in each of seven languages, put together from parts."""

import itertools

_PARTS: dict[str, tuple[list[str], list[str], list[str], str]] = {
    "Chinese": (
        ["我的朋友", "那个老师", "她的妹妹", "我们的邻居", "这位医生", "年轻的学生"],
        ["今天早上", "昨天晚上", "上个星期", "每天下午", "去年夏天", "刚才"],
        ["在图书馆看了一本有意思的书", "给我打电话说他不能来", "去市场买了很多新鲜的水果",
         "在公园里遇到了一个老同学", "做了一顿好吃的晚饭", "把钥匙忘在家里了"],
        "{0}{1}{2}。",
    ),
    "Traditional": (
        ["我的朋友", "那個老師", "她的妹妹", "我們的鄰居", "這位醫生", "年輕的學生"],
        ["今天早上", "昨天晚上", "上個星期", "每天下午", "去年夏天", "剛才"],
        ["在圖書館看了一本有意思的書", "給我打電話說他不能來", "去市場買了很多新鮮的水果",
         "在公園裡遇到了一個老同學", "做了一頓好吃的晚飯", "把鑰匙忘在家裡了"],
        "{0}{1}{2}。",
    ),
    "Japanese": (
        ["私の友達は", "あの先生は", "彼女の妹は", "隣の人は", "この医者は", "若い学生は"],
        ["今朝", "昨日の夜", "先週", "毎日の午後", "去年の夏", "さっき"],
        ["図書館で面白い本を読みました", "電話で来られないと言いました",
         "市場で新しい果物をたくさん買いました", "公園で古い友人に会いました",
         "おいしい夕食を作りました", "家に鍵を忘れました"],
        "{0}{1}{2}。",
    ),
    "Korean": (
        ["내 친구는", "그 선생님은", "그녀의 여동생은", "우리 이웃은", "이 의사는", "젊은 학생은"],
        ["오늘 아침에", "어제 밤에", "지난주에", "매일 오후에", "작년 여름에", "조금 전에"],
        ["도서관에서 재미있는 책을 읽었습니다", "올 수 없다고 전화로 말했습니다",
         "시장에서 신선한 과일을 많이 샀습니다", "공원에서 오래된 친구를 만났습니다",
         "맛있는 저녁을 만들었습니다", "집에 열쇠를 두고 왔습니다"],
        "{0} {1} {2}.",
    ),
    "Russian": (
        ["Мой друг", "Этот учитель", "Её младшая сестра", "Наш сосед", "Врач", "Студент"],
        ["сегодня утром", "вчера вечером", "на прошлой неделе", "каждый день", "летом", "сейчас"],
        ["читает интересную книгу в библиотеке", "звонит и говорит, что не может прийти",
         "покупает на рынке свежие фрукты", "встречает в парке старого друга",
         "готовит вкусный ужин", "забывает дома ключи"],
        "{0} {1} {2}.",
    ),
    "Polish": (
        ["Mój przyjaciel", "Ten nauczyciel", "Jej siostra", "Nasz sąsiad", "Lekarz", "Uczeń"],
        ["dziś rano", "wczoraj wieczorem", "w zeszłym tygodniu", "co dzień", "latem", "właśnie"],
        ["czyta ciekawą książkę w bibliotece", "dzwoni i mówi, że nie może przyjść",
         "kupuje na targu świeże owoce", "spotyka w parku dawną koleżankę",
         "gotuje pyszną kolację", "zapomina wziąć z domu klucze, więc źle śpi"],
        "{0} {1} {2}.",
    ),
    "French": (
        ["Mon ami", "Le professeur", "Sa petite sœur", "Notre voisin âgé", "L’élève", "Zoé"],
        ["ce matin", "hier à midi", "la semaine dernière", "après le dîner", "cet été", "là-bas"],
        ["a lu un livre très intéressant à la bibliothèque", "a téléphoné pour dire où il était",
         "a acheté des fruits frais au marché", "a rencontré un ancien élève près du théâtre",
         "a préparé un bon goûter", "a oublié ses clés à la maison, ça arrive"],
        "{0}, {1}, {2}.",
    ),
}  # fmt: skip

LANGUAGES = {
    language: [
        form.format(*parts) for parts in itertools.product(who, when, what)
    ][:200]
    for language, (who, when, what, form) in _PARTS.items()
}  # fmt: skip
"""Sentences by language."""

ENCODINGS = {
    "Chinese": ["gbk", "gb18030", "gb2312"],
    "Traditional": ["big5", "cp950"],
    "Japanese": ["shift_jis", "cp932", "euc_jp", "iso2022_jp"],
    "Korean": ["euc_kr", "cp949"],
    "Russian": ["cp1251", "koi8_r", "cp866", "iso8859_5"],
    "Polish": ["cp1250", "iso8859_2", "cp852"],
    "French": ["cp1252", "iso8859_15", "mac_roman"],
}
"""Encodings from before Unicode in which each is written."""

UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
