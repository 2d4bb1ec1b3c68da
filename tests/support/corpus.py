"""Texts that people, shops and attackers put into a ticket's fields."""

from __future__ import annotations

LATIN = {
    "short": "Ada Lovelace",
    "one letter": "J",
    "empty": "",
    "accents": "Žluťoučký kůň Łódź Ðæß Ŵÿ Ţîřgě Çelik Ñuñez Őszi Ğül",
    "ligatures": "Affinity ffl office fjord Trafficfly",
    "kerning": "AVATAR To. WAVE LY, Ty. P. Vr. Yo",
    "digits": "0123456789 11111 2026",
    "capitals": "WOLFGANG AMADEUS ÄÖÜ MÜLLER-ŁUKASZ",
    "no space": "x" * 300,
    "many words": "Jean-Luc van den Berghe-Tremblay of the Very Long House " * 4,
    "e-mail": f"{'a.long-name_' * 6}@{'sub-domain.' * 6}example.org",
    "markup": '<script>alert(1)</script>"><img src="file:///etc/passwd">',
    "template": "{{ 7 * 7 }}{% for x in y %}${7*7}#{7*7}",
    "cdata": "]]> &amp; &#65; <!-- --> </section></body>",
    "string of a PDF": r"(\) Tj ET Q (\(\)) \012 <0041> Tj >> endobj endstream",
    "percent": "100 % %s %d %(name)s %n %%EOF",
    "quotes": (
        "O'Brien \u201cthe\u201d \u2018Kid\u2019 \u2013 D\u2019Arcy \u2014 \u00abNo\u00bb\u2026"
    ),
    "signs": "a/b@c_d #1 €5 £3 © ® ™ № 7 \u2020 5\u00a0% ½ ²",
    "decomposed": "Jose\u0301 Zoe\u0308 A\u030angstro\u0308m",
    "blanks": "  Ada \t  Lovelace\n ",
    "one long word": "Wolfeschlegelsteinhausenbergerdorff" * 2,
    "a little too long": "Maximiliane Freifrau von und zu Hohenstein",
    "double names": "Anna-Lena-Marie-Sophie Meyer-Schmidt-Lang/Müller_Otto@home",
    "a whole book": "Call me Ishmael. " * 589,
    "Greek": "Ελευθερία Παπαδοπούλου",
    "Greek, polytonic": "Ἀλέξανδρος ὁ Μέγας, Ὀδυσσεὺς ᾍδης",
    "Cyrillic": "Достоевский, Фёдор Михайлович",
    "Cyrillic, further": "Ђорђе Љубичић №5 (Володимир Ґалаґан), Ўладзімір Іўеў",
    "Cyrillic, a whole book": "Все счастливые семьи похожи. " * 345,  # noqa: RUF001 - another script, and meant so
}
ODD = {
    "Chinese": "王小明",
    "Chinese, long": "王" * 300,
    "Arabic": "محمد بن علي الخوارزمي",
    "Hebrew": "דָּוִד בן־גוריון",
    "Devanagari": "मोहनदास करमचंद गांधी",
    "Thai": "สมชาย ใจดี",
    "emoji": "🎟️ 👩‍👩‍👧‍👦 🏳️‍🌈 Ada",
    "combining": "e\u0301\u0302x q\u0303 Z\u0361a",
    "mixed": "Ada 王小明 (محمد) <b>Грейс</b>",
    "two scripts": "Ada Достоевский, Ελένη",
    "two scripts in one word": "AVТО",  # noqa: RUF001 - the last two are Cyrillic
    "Arabic, long": "مرحبا بالعالم " * 60,
    "Japanese": "山田さくら カナ",
    "Korean": "김철수",
    "Tamil": "கமல்ஹாசன்",
    "control-like": "a\u200db\u200cc \u202eevE",
}
