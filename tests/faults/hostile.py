"""What nobody wants to read: lines and files by name, each with the classes that it ends in."""

import gzip
import io
import random

import pyarrow
import pyarrow.parquet

from tests.helpers import song
from tests.lines import H, P

SONG = b'{"song_id":"SO1","title":"River","artist_id":"AR1","artist_name":"Foxes","duration":200.5}'
TS = b"1541106106796"
LINES = {
    "a non-breaking blank": ("\u00a0".encode(), "malformed"),
    "a zero-width blank": ("\u200b".encode(), "malformed"),
    "a form feed": (b"\x0c", "malformed"),
    "a vertical tab before the object": (b"\x0b" + P, "malformed"),
    "a line separator between two objects": (P + "\u2028".encode() + P, "malformed"),
    "a line separator in text": (H % '"level":"a\u2028b"'.encode(), "out_of_scope"),
    "next line (U+0085) after the object": (P + "\u0085".encode(), "malformed"),
    "an escaped NUL in text": (H % b'"level":"a\\u0000b"', "out_of_scope"),
    "an escaped line end in text": (H % b'"level":"a\\nb"', "out_of_scope"),
    "text outside the basic plane": (H % '"level":"\U0001f3b5"'.encode(), "out_of_scope"),
    "an escaped pair of surrogates": (H % b'"level":"\\ud83c\\udfb5"', "out_of_scope"),
    "a noncharacter": (H % '"level":"\uffff"'.encode(), "out_of_scope"),
    "text written from right to left": (H % '"level":"\u202eabc"'.encode(), "out_of_scope"),
    "a letter of six bytes": (H % b'"level":"\xfc\x80\x80\x80\x80\x80"', "malformed"),
    "beyond Unicode": (H % b'"level":"\xf4\x90\x80\x80"', "malformed"),
    "an escape that is none": (H % b'"level":"\\x41"', "malformed"),
    "a short escape": (H % b'"level":"\\u00"', "malformed"),
    "a backslash before the last quote": (H % b'"level":"a\\"', "malformed"),
    "text without its last quote": (P[:-1] + b',"x":"a}', "malformed"),
    "a key without quotes": (P[:-1] + b",x:1}", "malformed"),
    "a key without a value": (P[:-1] + b',"x":}', "malformed"),
    "a number as a key": (P[:-1] + b",1:1}", "malformed"),
    "an empty key": (P[:-1] + b',"":1}', "play"),
    "a colon too many": (P[:-1] + b',"x"::1}', "malformed"),
    "a comma first": (b"{," + P[1:], "malformed"),
    "a bracket for a brace": (P[:-1] + b"]", "malformed"),
    "True of Python": (P[:-1] + b',"x":True}', "malformed"),
    "NaN where nothing is read": (P[:-1] + b',"x":[NaN,-Infinity]}', "play"),
    "NaN as ts": (P.replace(TS, b"NaN"), "malformed"),
    "undefined of JavaScript": (P[:-1] + b',"x":undefined}', "malformed"),
    "a hexadecimal number": (P.replace(b"200.5", b"0x10"), "malformed"),
    "a number with a plus": (P.replace(b"200.5", b"+200.5"), "malformed"),
    "a number that begins with a point": (P.replace(b"200.5", b".5"), "malformed"),
    "a number that ends with a point": (P.replace(b"200.5", b"200."), "malformed"),
    "a number with a blank": (P.replace(b"200.5", b"200 5"), "malformed"),
    "a number with a thousands comma": (P.replace(b"200.5", b"1,200.5"), "malformed"),
    "minus alone": (P.replace(b"200.5", b"-"), "malformed"),
    "minus zero": (P.replace(b"200.5", b"-0.0"), "play"),
    "a length with an exponent": (P.replace(b"200.5", b"2.005e2"), "play"),
    "a length too small for DOUBLE": (P.replace(b"200.5", b"1e-400"), "play"),
    "a length of 400 digits": (P.replace(b"200.5", b"1" * 400), "malformed"),
    "a length as a list": (P.replace(b"200.5", b"[200.5]"), "malformed"),
    "a length as a boolean": (P.replace(b"200.5", b"false"), "malformed"),
    "ts with an exponent": (P.replace(TS, b"1.541106106796e12"), "malformed"),
    "ts with a fraction of zero": (P.replace(TS, TS + b".0"), "malformed"),
    "ts of 400 digits": (P.replace(TS, b"1" * 400), "malformed"),
    "ts as text of a date": (P.replace(TS, b'"2018-11-01T21:01:46Z"'), "malformed"),
    "ts below zero": (P.replace(TS, b"-1"), "invalid"),
    "ts NULL": (P.replace(TS, b"null"), "invalid"),
    "ts in nanoseconds": (P.replace(TS, TS + b"000000"), "invalid"),
    "sessionId beyond BIGINT": (
        P.replace(b'"sessionId":7', b'"sessionId":-9223372036854775809'),
        "malformed",
    ),
    "sessionId below zero": (P.replace(b'"sessionId":7', b'"sessionId":-7'), "play"),
    "itemInSession as NaN": (P.replace(b'"itemInSession":1', b'"itemInSession":NaN'), "malformed"),
    "a number field given twice, the last is none": (P[:-1] + b',"length":"x"}', "malformed"),
    "a userId as a list": (P.replace(b'"8"', b"[8]"), "invalid"),
    "a userId as a boolean": (P.replace(b'"8"', b"true"), "invalid"),
    "a userId with an exponent": (P.replace(b'"8"', b"8e0"), "invalid"),
    "a userId of zero": (P.replace(b'"8"', b'"0"'), "play"),
    "a userId of 10,000 digits": (P.replace(b'"8"', b'"' + b"9" * 10_000 + b'"'), "invalid"),
    "a userId NULL": (P.replace(b'"8"', b"null"), "invalid"),
    "a page in another case": (P.replace(b"NextSong", b"nextsong"), "out_of_scope"),
    "a page with a blank": (P.replace(b"NextSong", b"NextSong "), "out_of_scope"),
    "a page as a list": (P.replace(b'"NextSong"', b'["NextSong"]'), "out_of_scope"),
    "an object in place of the event": (b'{"record":' + P + b"}", "invalid"),
    "a formula of a spreadsheet": (H % b'"level":"=1+1"', "out_of_scope"),
    "SQL": (H % b'"level":"\'; DROP TABLE users; --"', "out_of_scope"),
    "10,000 keys": (P[:-1] + b"".join(b',"k%d":1' % n for n in range(10_000)) + b"}", "play"),
    "nested 100,000 deep": (P[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "play"),
    "opened 100,000 times and never closed": (b"[" * 100_000, "malformed"),
}
RECORDS = {
    "an event among songs": (P, "invalid"),
    "a list of songs": ([song(), song()], "malformed"),
    "duration beyond DOUBLE": (SONG.replace(b"200.5", b"1e400"), "malformed"),
    "artist_name as a list": (song(artist_name=["Foxes"]), "record"),
    "year as a boolean": (song(year=True), "malformed"),
    "year below zero": (song(year=-1), "record"),
}


def parquet() -> bytes:
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), data)
    return data.getvalue()


def lines_of(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


UTF16 = (P + b"\n" + P).decode().encode("utf-16")
ZIP = gzip.compress(P + b"\n" + P)
NOISE = random.Random(1).randbytes(4096)
# content of a log file, and its lines by class
FILES = {
    "empty": (b"", {}),
    "a line end": (b"\n", {"blank": 1}),
    "line ends alone": (b"\n\r\n\n", {"blank": 3}),
    "no final line end": (P + b"\n" + P, {"play": 2}),
    "a final line end": (P + b"\n" + P + b"\n", {"play": 2}),
    "CRLF": (P + b"\r\n" + P + b"\r\n", {"play": 2}),
    "CR as the line end": (P + b"\r" + P + b"\r", {"malformed": 1}),
    "a BOM": (b"\xef\xbb\xbf" + P + b"\n" + P, {"play": 2}),
    "a BOM and CRLF": (b"\xef\xbb\xbf" + P + b"\r\n", {"play": 1}),
    "a BOM twice": (b"\xef\xbb\xbf" * 2 + P, {"malformed": 1}),
    "UTF-16": (UTF16, {"malformed": lines_of(UTF16)}),
    "UTF-32": (P.decode().encode("utf-32"), {"malformed": 1}),
    "UTF-7": (P.decode().encode("utf-7") + b"+", {"malformed": 1}),
    "gzip": (ZIP, {"malformed": lines_of(ZIP)}),
    "Parquet": (parquet(), {"malformed": lines_of(parquet())}),
    "noise": (NOISE, {"malformed": lines_of(NOISE)}),
    "zeros": (bytes(4096), {"malformed": 1}),
    "pretty-printed": (P.replace(b",", b",\n"), {"malformed": P.count(b",") + 1}),
    "one array": (b"[\n" + P + b",\n" + P + b"\n]", {"malformed": 3, "play": 1}),
    "two files glued together": (P + P + b"\n" + P, {"malformed": 1, "play": 1}),
    "a line of 25 MB": (P[:-1] + b',"song":"' + b"a" * 25_000_000 + b'"}', {"play": 1}),
    "cut off in a line": (P + b"\n" + P[:50], {"play": 1, "malformed": 1}),
    "cut off in a letter": (P + b"\n" + (H % b'"level":"\xc3'), {"play": 1, "malformed": 1}),
    "an error page": (b"<html><body>503</body></html>\n", {"malformed": 1}),
    "CSV": (b"page,ts\nNextSong,1\n", {"malformed": 2}),
}
# of input files, without their suffix
NAMES = (
    "a b",
    "a#b",
    "a?b",
    "a%2Fb",
    "a%b",
    "a%20b",
    "a+b",
    "a=b",
    "a&b",
    "a;b",
    "a,b",
    "a'b",
    'a"b',
    "a\\b",
    "a|b",
    "a*b",
    "a[b]",
    "a{b}",
    "a<b>",
    "a^b",
    "a`b",
    "a~b",
    "a$b",
    "a!b",
    "a@b",
    "-a",
    "a..b",
    "a.json",
    "é",
    "e\u0301",
    "\U0001f3b5",
    "a\u00a0b",
    "a\u202eb",
    "a" * 200,
    "k=v/a",
    "%41/a",
    "d.json/a",
    "/".join("abcdefghijklmnopqrst"),
    "a ",
    " a",
    "NUL",
    "con",
)
HIDDEN = (
    "_x.json",
    ".x.json",
    ".json",
    "_/x.json",
    "a/_b/x.json",
    "a/.b/x.json",
    "_k=v/x.json",
    "_SUCCESS",
)
SKIPPED = (
    "x",
    "x.json~",
    "x.json ",
    "x.json.crc",
    "x.json.bz2",
    "x.jsonlines",
    "x.gz",
)
