"""users: type 1, one row per user_id as of the latest valid event."""

from helpers import play, rows_of

from etl import stage_events, users_table


def test_a_user_who_upgrades_keeps_the_latest_level(json_lines):
    lines = json_lines(
        play(ts=1541106106796, sessionId=9, level="free"),
        play(ts=1541192506796, sessionId=7, level="paid"),
    )
    assert rows_of(users_table(stage_events(lines))) == [(8, "Ada", "Koch", "F", "paid")]


def test_a_user_who_never_played_is_a_user(json_lines):
    lines = json_lines(play(page="Home", song=None, artist=None, length=None, userId="9"))
    assert rows_of(users_table(stage_events(lines)), "user_id") == [(9,)]


def test_events_without_a_user_and_invalid_events_are_nobody(json_lines):
    lines = json_lines(
        play(page="Home", userId=""),
        play(page="Home", userId=None),
        play(ts=None),
        play(userId="08"),
    )
    assert rows_of(users_table(stage_events(lines))) == []


def test_events_at_one_instant_are_ordered_by_session_then_item_then_the_columns(json_lines):
    lines = json_lines(
        play(sessionId=7, itemInSession=9, level="paid"),
        play(sessionId=8, itemInSession=0, level="free", lastName="Adams"),
        play(sessionId=8, itemInSession=0, level="free", lastName="Young"),
        play(sessionId=None, page="Home", level="zzz"),
    )
    assert rows_of(users_table(stage_events(lines)), "last_name", "level") == [("Young", "free")]


def test_events_of_one_session_and_instant_are_ordered_by_item_level_first_and_last_name_and_gender(
    json_lines,
):
    lines = json_lines(
        *(
            play(userId="1", itemInSession=item, level=level)
            for item, level in ((0, "paid"), (1, "free"))
        ),
        *(
            play(userId="2", level=level, firstName=name)
            for level, name in (("paid", "Ada"), ("free", "Bea"))
        ),
        *(
            play(userId="3", firstName=first, lastName=last)
            for first, last in (("Bea", "Koch"), ("Ada", "Lutz"))
        ),
        *(
            play(userId="4", lastName=last, gender=gender)
            for last, gender in (("Lutz", "F"), ("Koch", "M"))
        ),
    )
    assert rows_of(users_table(stage_events(lines))) == [
        (1, "Ada", "Koch", "F", "free"),
        (2, "Ada", "Koch", "F", "paid"),
        (3, "Bea", "Koch", "F", "free"),
        (4, "Ada", "Lutz", "F", "free"),
    ]


def test_null_is_lowest(json_lines):
    lines = json_lines(play(firstName=None), play(firstName="Ada"), play(firstName=""))
    assert rows_of(users_table(stage_events(lines)), "first_name") == [("Ada",)]


def test_the_order_of_the_input_changes_nothing(json_lines):
    events = [
        play(level=level, firstName=name)
        for level in ("free", "paid")
        for name in ("Ada", "Zoë", None)
    ]
    there, back = (
        users_table(stage_events(json_lines(*events))),
        users_table(stage_events(json_lines(*events[::-1]))),
    )
    assert rows_of(there) == rows_of(back) == [(8, "Zoë", "Koch", "F", "paid")]
