"""Lines of logs and song files, by name, with the class that each must end in."""

from tests.helpers import song

P = (
    b'{"page":"NextSong","userId":"8","sessionId":7,"itemInSession":1,'
    b'"ts":1541106106796,"length":200.5}'
)
H = b'{"page":"Home","ts":1541106106796,%s}'
LOG_LINES = {
    # blank
    "empty": (b"", "blank"),
    "spaces, tabs and CR": (b" \t \r", "blank"),
    # well-formed
    "a play": (P, "play"),
    "CR before the line end": (P + b"\r", "play"),
    "blanks around the object": (b" \t" + P + b" ", "play"),
    "signed out": (H % b'"userId":""', "out_of_scope"),
    "an unknown key": (P[:-1] + b',"new":[{"a":1}]}', "play"),
    "a key given twice, the last counts": (P[:-1] + b',"page":"Home"}', "out_of_scope"),
    "a key in another case is another key": (P.replace(b"page", b"Page"), "invalid"),
    "userId as a number": (P.replace(b'"8"', b"8"), "play"),
    "a length that is a whole number": (P.replace(b"200.5", b"200"), "play"),
    "a number in an unused field that is text": (P[:-1] + b',"status":"x"}', "play"),
    "NaN in an unused field": (P[:-1] + b',"registration":NaN}', "play"),
    "text longer than parsers allow by default": (
        P[:-1] + b',"x":"' + b"a" * 21_000_000 + b'"}',
        "play",
    ),
    "nesting deeper than parsers allow by default": (
        P[:-1] + b',"x":' + b"[" * 1500 + b"]" * 1500 + b"}",
        "play",
    ),
    "a number longer than parsers allow by default": (
        P[:-1] + b',"x":' + b"1" * 1500 + b"}",
        "play",
    ),
    "an object where text is due": (H % b'"level":{"a":1}', "out_of_scope"),
    # not exactly one object
    "two objects": (P + P, "malformed"),
    "two objects and a comma": (P + b"," + P, "malformed"),
    "two objects and a CR": (P + b"\r" + P, "malformed"),
    "text after the object": (P + b" x", "malformed"),
    "a comment after the object": (P + b" // x", "malformed"),
    "a brace too many": (P + b"}", "malformed"),
    "an object and a further key": (P + b',"x":{"a":1}', "malformed"),
    "an object that closes what it is in": (P + b'}},"x":{"y":{"z":1', "malformed"),
    "an object that opens the wrapper of a parser again": (
        b'{"x":1}},"wrapped":{"record":' + P,
        "malformed",
    ),
    "null, and then the wrapper of a parser": (b'null},"wrapped":{"record":' + P, "malformed"),
    "an array": (b"[" + P + b"]", "malformed"),
    "a string": (b'"x"', "malformed"),
    "a number": (b"1", "malformed"),
    "null": (b"null", "malformed"),
    "cut off": (P[:-5], "malformed"),
    "the first line of a pretty-printed object": (b"{", "malformed"),
    "the last line of a pretty-printed object": (b"}", "malformed"),
    "single quotes": (b"{'page':'NextSong'}", "malformed"),
    "no quotes": (b"{page:1}", "malformed"),
    "a trailing comma": (P[:-1] + b",}", "malformed"),
    "a raw tab in text": (H % b'"level":"a\tb"', "malformed"),
    "a raw NUL": (P + b"\x00", "malformed"),
    "UTF-16": (P.decode().encode("utf-16-le"), "malformed"),
    "a BOM that is not at the start of the file": (b"\xef\xbb\xbf" + P, "malformed"),
    # bad UTF-8
    "a Latin-1 letter": (H % b'"level":"caf\xe9"', "malformed"),
    "a letter cut in half": (H % b'"level":"caf\xc3"', "malformed"),
    "an overlong form": (H % b'"level":"\xc0\xaf"', "malformed"),
    "an encoded surrogate": (H % b'"level":"\xed\xa0\x80"', "malformed"),
    "bad UTF-8 in an unknown key": (P[:-1] + b',"x":"\xff"}', "malformed"),
    # numbers that are none, or do not fit
    "a number field given twice, the first of them text": (
        P.replace(b'"sessionId":7', b'"sessionId":"x","sessionId":7'),
        "malformed",
    ),
    "ts in quotes": (P.replace(b"1541106106796", b'"1541106106796"'), "malformed"),
    "ts with a fraction": (P.replace(b"1541106106796", b"1541106106796.5"), "malformed"),
    "ts beyond BIGINT": (P.replace(b"1541106106796", b"9223372036854775808"), "malformed"),
    "ts as a boolean": (P.replace(b"1541106106796", b"true"), "malformed"),
    "ts as an object": (P.replace(b"1541106106796", b"{}"), "malformed"),
    "sessionId in quotes": (P.replace(b'"sessionId":7', b'"sessionId":"7"'), "malformed"),
    "itemInSession with a fraction": (
        P.replace(b'"itemInSession":1', b'"itemInSession":1.5'),
        "malformed",
    ),
    "length in quotes": (P.replace(b"200.5", b'"200.5"'), "malformed"),
    "length empty": (P.replace(b"200.5", b'""'), "malformed"),
    "length NaN": (P.replace(b"200.5", b"NaN"), "malformed"),
    "length NaN in quotes": (P.replace(b"200.5", b'"NaN"'), "malformed"),
    "length Infinity": (P.replace(b"200.5", b"-Infinity"), "malformed"),
    "length beyond DOUBLE": (P.replace(b"200.5", b"1e400"), "malformed"),
    "a leading zero": (P.replace(b"200.5", b"0200.5"), "malformed"),
    # invalid
    "no page": (b'{"ts":1541106106796}', "invalid"),
    "an empty page": (b'{"ts":1541106106796,"page":""}', "invalid"),
    "an empty object": (b"{}", "invalid"),
    "no ts": (b'{"page":"Home"}', "invalid"),
    "ts before 2000": (P.replace(b"1541106106796", b"946684799999"), "invalid"),
    "ts in 2100": (P.replace(b"1541106106796", b"4102444800000"), "invalid"),
    "ts in seconds": (P.replace(b"1541106106796", b"1541106106"), "invalid"),
    "ts at BIGINT's end": (P.replace(b"1541106106796", b"9223372036854775807"), "invalid"),
    "a userId that is a word": (H % b'"userId":"x"', "invalid"),
    "a userId with a leading zero": (P.replace(b'"8"', b'"08"'), "invalid"),
    "a userId with a blank": (P.replace(b'"8"', b'" 8"'), "invalid"),
    "a userId with a line end": (P.replace(b'"8"', b'"8\\n"'), "invalid"),
    "a userId with a sign": (P.replace(b'"8"', b'"-8"'), "invalid"),
    "a userId in other digits": (P.replace(b'"8"', '"٨"'.encode()), "invalid"),
    "a userId with a fraction": (P.replace(b'"8"', b"8.5"), "invalid"),
    "a userId beyond BIGINT": (P.replace(b'"8"', b'"9223372036854775808"'), "invalid"),
    "a play without userId": (P.replace(b'"8"', b'""'), "invalid"),
    "a play without sessionId": (P.replace(b'"sessionId":7', b'"sessionId":null'), "invalid"),
    "a play without itemInSession": (P.replace(b'"itemInSession":1,', b""), "invalid"),
}
SONG_LINES = {
    "a song": (song(), "record"),
    "title as a number": (song(title=1999), "record"),
    "two songs": (b"{}{}", "malformed"),
    "bad UTF-8": (b'{"title":"\xff"}', "malformed"),
    "duration in quotes": (song(duration="200.5"), "malformed"),
    "latitude in quotes": (song(artist_latitude="1"), "malformed"),
    "latitude NaN": (song(artist_latitude=float("nan")), "record"),
    "latitude NaN in quotes": (song(artist_latitude="NaN"), "malformed"),
    "longitude Infinity": (song(artist_longitude=float("inf")), "malformed"),
    "duration NaN": (song(duration=float("nan")), "malformed"),
    "latitude beyond DOUBLE": (b'{"artist_latitude":1e999}', "malformed"),
    "longitude beyond DOUBLE": (b'{"artist_longitude":-1e999}', "malformed"),
    "year with a fraction": (song(year=1999.5), "malformed"),
    "year beyond INT": (song(year=2**31), "malformed"),
    "an artist_id with a control character": (song(artist_id="AR\0001"), "invalid"),
    "the artist_id of a folder without one": (
        song(artist_id="__HIVE_DEFAULT_PARTITION__"),
        "invalid",
    ),
    "no song_id": (song(song_id=None), "invalid"),
    "an empty title": (song(title=""), "invalid"),
    "no artist_id": (song(artist_id=None), "invalid"),
    "an empty artist_name": (song(artist_name=""), "invalid"),
    "no duration": (song(duration=None), "invalid"),
    "a duration of 0": (song(duration=0), "invalid"),
    "a negative duration": (song(duration=-1.5), "invalid"),
}


def damaged(line, others, chance):
    """A line with one byte flipped, cut off, inserted, spliced with another, or repeated."""
    place = chance.randrange(max(len(line), 1))
    before, after = line[:place], line[place:]
    how = chance.choice(("flip", "cut", "insert", "splice", "repeat"))
    if how == "flip" and after:
        return before + bytes([after[0] ^ (1 << chance.randrange(8))]) + after[1:]
    if how == "cut":
        return before
    if how == "insert":
        return before + chance.choice((b"}", b"{", b'"', b",", b"\0", b"\xc3", b"\\")) + after
    if how == "splice":
        return before + chance.choice(others)[place:]
    return line + line
