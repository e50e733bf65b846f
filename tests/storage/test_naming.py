"""Names in Parquet: given out once, never changed, unique for engines that do not look at case."""

from hypothesis import example, given
from hypothesis import strategies as st

from storage.kinds import Kind
from storage.naming import DIRECTORIES, EMPTY_NAME, FIXED, SUFFIXES, physical_names

Columns = list[tuple[str | None, Kind]]

# Names that devices send, and names that only an enemy would: those of others, of suffixes, of numbers.
STREAMS = (
    st.none()
    | st.text(max_size=6)
    | st.sampled_from([*FIXED, *DIRECTORIES, "SEQ", "Tag", "value", "Value", "", "_", "temp", "TEMP", "Temp"])
    | st.sampled_from(["temp__text", "temp__json", "TEMP__text", "temp_2", "temp__text_2", "tag_2", "seq_2"])
    | st.sampled_from(["a b", "a_b", "a,b", "a;b", "a{b", "a\tb", "a\x00b", "ß", "ss", "SS", "ſs", "İ", "i̇"])
)


def columns_of(streams: st.SearchStrategy[str | None]) -> st.SearchStrategy[Columns]:
    return st.lists(st.tuples(streams, st.sampled_from(Kind)), max_size=20, unique=True)


COLUMNS = columns_of(STREAMS)


@given(COLUMNS, st.integers(0, 20))
def test_a_later_column_never_renames_an_earlier_one(columns: Columns, first: int) -> None:
    assert physical_names(columns[:first]) == physical_names(columns)[:first]


@given(COLUMNS)
@example([("ß", Kind.NUMBER), ("SS", Kind.NUMBER), ("ss", Kind.NUMBER)])
def test_names_differ_for_every_engine(columns: Columns) -> None:
    names = [*physical_names(columns), *FIXED, *DIRECTORIES]
    for same in (str.lower, str.upper, str.casefold):
        assert len({same(name) for name in names}) == len(columns) + len(FIXED) + len(DIRECTORIES)


@given(COLUMNS)
def test_spark_accepts_every_name(columns: Columns) -> None:
    for name in physical_names(columns):
        assert name
        assert not set(name) & set(" ,;{}()\n\t=")
        assert all(ord(letter) >= 32 and not 127 <= ord(letter) < 160 for letter in name)


@given(columns_of(st.text("abcdäöü漢😀.-/", min_size=1, max_size=6)))
def test_what_collides_with_nothing_keeps_its_name(columns: Columns) -> None:
    owner: dict[str | None, Kind] = {}
    expected = []
    for stream, kind in columns:
        if kind != Kind.JSON and owner.setdefault(stream, kind) == kind:
            expected.append(stream)
        else:
            expected.append(f"{stream}__{kind.name.lower()}")
    assert physical_names(columns) == expected


def test_the_first_kind_owns_the_name_and_later_ones_get_a_suffix() -> None:
    columns: Columns = [("t", kind) for kind in (Kind.TEXT, Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN)]
    assert physical_names(columns) == ["t", "t__number", "t__integer", "t__boolean"]


def test_json_never_owns_a_name() -> None:
    assert physical_names([("t", Kind.JSON), ("t", Kind.NUMBER), ("t", Kind.TEXT)]) == [
        "t__json",
        "t",
        "t__text",
    ]


def test_the_literal_is_called_value_and_the_stream_of_that_name_is_another_one() -> None:
    assert physical_names([(None, Kind.NUMBER), ("value", Kind.NUMBER), (None, Kind.TEXT)]) == [
        "value",
        "value_2",
        "value__text",
    ]
    assert physical_names([("value", Kind.NUMBER), (None, Kind.NUMBER)]) == ["value", "value_2"]


def test_fixed_columns_and_directories_keep_their_names() -> None:
    streams = [*FIXED, *DIRECTORIES, "Seq", "CHANNEL"]
    assert physical_names((stream, Kind.NUMBER) for stream in streams) == [
        "seq_2",
        "at_2",
        "device_2",
        "tag_2",
        "user_2",
        "channel_2",
        "day_2",
        "Seq_3",
        "CHANNEL_3",
    ]


def test_a_name_that_somebody_else_has_gets_a_number() -> None:
    columns: Columns = [
        ("t__text", Kind.NUMBER),
        ("t", Kind.NUMBER),
        ("t", Kind.TEXT),
        ("T__TEXT_2", Kind.TEXT),
    ]
    assert physical_names(columns) == ["t__text", "t", "t__text_2", "T__TEXT_2_2"]


def test_refused_letters_and_the_empty_key_have_a_name() -> None:
    columns: Columns = [("a b;c", Kind.NUMBER), ("a_b_c", Kind.NUMBER), ("", Kind.NUMBER), ("_", Kind.TEXT)]
    assert physical_names(columns) == ["a_b_c", "a_b_c_2", EMPTY_NAME, "__2"]
    assert physical_names([("\x00\x7f\x85", Kind.NUMBER)]) == ["___"]


def test_every_kind_has_a_suffix_of_its_own() -> None:
    assert set(SUFFIXES) == set(Kind)
    assert len(set(SUFFIXES.values())) == len(Kind)
