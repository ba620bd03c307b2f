import pytest

from router.rows import InvalidRows, Row, read_rows


def test_reads_rows_with_their_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        '\ufeff{"text": "hi", "task": "greeting"}\r\n\n{"text": "焊", "task": "oos", "x": 1}\n'.encode()
    )
    assert read_rows(path) == [Row("hi", "greeting", 1), Row("焊", "oos", 3)]


@pytest.mark.parametrize(
    "line, message",
    [
        (b"{", "line 2: not JSON"),
        (b"[1]", "line 2: not an object"),
        (b'{"text": ' + b"9" * 5000 + b"}", "line 2: not JSON"),
        (b'{"task": "faq"}', "line 2: text must be a string that is not empty, got None"),
        (b'{"text": " ", "task": "faq"}', "line 2: text must be"),
        (b'{"text": 5, "task": "faq"}', "line 2: text must be a string that is not empty, got 5"),
        (b'{"text": "a"}', "line 2: task must be the name"),
        (b'{"text": "a", "task": "no such name!"}', "line 2: task must be the name"),
        (b'{"text": "a", "task": "auto"}', "line 2: task must be the right one"),
        (b'{"text": "\xff", "task": "faq"}', "line 2: not UTF-8 at byte 11"),
        (b'{"text": "a\\ud800", "task": "faq"}', "line 2: text is not valid Unicode at character 2"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "hi", "task": "greeting"}\n' + line + b"\n")
    with pytest.raises(InvalidRows) as caught:
        read_rows(path)
    assert message in str(caught.value)
    assert caught.value.field == str(path)


def test_many_bad_rows_are_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("?\n" * 12)
    with pytest.raises(InvalidRows, match=r"line 5.*and 7 more"):
        read_rows(path)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("\n")])
def test_no_file_and_no_rows(tmp_path, make):
    path = tmp_path / "rows.jsonl"
    make(path)
    with pytest.raises(InvalidRows):
        read_rows(path)
