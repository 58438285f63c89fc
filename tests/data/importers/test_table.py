"""Tables: the shapes that people have, odd rows that are noted, and faults that are refused by name."""

import csv
import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.checks import refused

from benchmark.data.importers.table import read_table
from benchmark.errors import InputError

MARKED = [["file", "cat", "dog"], ["a.jpg", "1", "0"], ["b c.jpg", "1", "1"], ["d.jpg", "0", "0"]]


def write(folder, content, name="labels.csv"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def as_csv(rows, **style):
    text = io.StringIO(newline="")
    csv.writer(text, **style).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_columns_of_0_and_1(tmp_path, delimiter, end, quoting, mark):
    text = as_csv(MARKED, delimiter=delimiter, lineterminator=end, quoting=quoting)
    read = read_table(write(tmp_path, mark + text.encode()))
    assert read.classes == ("cat", "dog") and read.notes == ()
    assert list(read.labels.items()) == [("a.jpg", {0}), ("b c.jpg", {0, 1}), ("d.jpg", frozenset())]


@pytest.mark.parametrize("name", ["File", "FILE_NAME", "image-id", " Image Path ", "path"])
def test_the_column_of_images_may_stand_anywhere(tmp_path, name):
    read = read_table(write(tmp_path, f"dog,{name},cat\n1.0,a.jpg,False\nTRUE,b.jpg,1\n"))
    assert read.classes == ("dog", "cat") and read.labels == {"a.jpg": {0}, "b.jpg": {0, 1}}


@pytest.mark.parametrize(
    "text",
    [
        "file,labels\na.jpg,dog; cat\nb.jpg,\nc.jpg,dog;\n",
        "file;labels\na.jpg;dog|cat\nb.jpg;\nc.jpg;|dog\n",
        'file,labels\n"a.jpg","dog, cat"\n"b.jpg",""\n"c.jpg","dog"\n',
        'labels\tfile\n"dog;cat"\ta.jpg\n\tb.jpg\ndog\tc.jpg\n',
        'file;labels\na.jpg;"dog;cat"\nb.jpg;\nc.jpg;dog\n',
    ],
)
def test_names_in_one_cell(tmp_path, text):
    read = read_table(write(tmp_path, text))
    assert read.classes == ("cat", "dog")
    assert list(read.labels.items()) == [("a.jpg", {0, 1}), ("b.jpg", frozenset()), ("c.jpg", {1})]
    [note] = read.notes
    assert "divided at" in note


def test_several_rows_an_image(tmp_path):
    read = read_table(write(tmp_path, "image,class\na.jpg,small dog\nb.jpg,cat\n./a.jpg,cat\na.jpg,cat\n"))
    assert read.labels == {"a.jpg": {0, 1}, "b.jpg": {0}} and read.classes == ("cat", "small dog")
    [note] = read.notes
    assert "1 image with several rows, labels joined: 'a.jpg'" in note


def test_empty_lines_and_rows_are_left_out(tmp_path):
    read = read_table(write(tmp_path, "\n\nfile,cat\n\na.jpg,1\n,\n\n,\n"))
    assert read.labels == {"a.jpg": {0}} and read.notes == ("2 rows of empty cells left out",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("the table is empty",)),
        ("\n \n", ("the table is empty",)),
        ("a.jpg,1,0\nb.jpg,0,1\n", ("no header", "'a.jpg'", "filename", "`labels`")),
        ("name,cat\na.jpg,1\n", ("no header", "'name', 'cat'")),
        ("file\na.jpg\n", ("no column beside 'file'",)),
        ("file,labels\n", ("a header and no row",)),
        ("file,path,cat\na,b,1\n", ("'file', 'path' may all hold",)),
        ("file,cat,cat\na,1,1\n", ("class 'cat' is given twice",)),
        ("file,cat,Cat\na,1,1\n", ("'cat', 'Cat' differ in case",)),
        ("file,fire truck,firetruck\na,1,1\n", ("'fire truck', 'firetruck' differ",)),
        ("file,labels\na.jpg,dog\nb.jpg,DOG\n", ("'DOG', 'dog' differ in case",)),
        (",file,cat\n0,a.jpg,1\n", ("column 1 has no name", "index=False")),
        ("file,width,cat\na.jpg,640,1\n", (":2:", "unknown column 'width'", "'640'")),
        ("file,cat\na.jpg,1\nb.jpg,\n", (":3:", "'cat'", "''")),
        ("file,cat\na.jpg,-1\n", ("'-1'",)),
        ("file,animals\na.jpg,dog\n", ("unknown column 'animals'", "`labels`")),
        ("file,labels,width\na.jpg,dog,640\n", ("unknown column 'width' beside 'labels'",)),
        ("file,label,tags\na.jpg,dog,x\n", ("unknown column 'tags' beside 'label'",)),
        ("file,labels\na.jpg,dog,cat\n", (":2: 3 cells, and the header has 2", "comma")),
        ("file,labels\na.jpg\n", (":2: 1 cell,",)),
        ("file,labels\na.jpg,dog;cat\nb.jpg,dog|cat\n", (":2", ":3", "';'", "'|'", "use one")),
        ('file,labels\n"a.jpg,dog\nb.jpg,cat\n', ("not a table", "quotes")),
        ('file,labels\n"a"b.jpg,dog\n', (":2: not a table",)),
        ("file,labels\n../a.jpg,dog\n", (":2:", "'../a.jpg' leaves")),
        ("file,labels\n/a.jpg,dog\n", ("leaves",)),
        ("file,labels\nx\\a.jpg,dog\n", ("backslash",)),
        ("file,labels\n,dog\n", ("name of its image is empty",)),
        ('file,labels\n"a\nb.jpg",dog\n', (":3:", "rename the file")),
        ("file,labels\na\0.jpg,dog\n", (":2:",)),
        ('file,labels\na.jpg,"x\ny"\n', ("'x\\ny'", "rename the class")),
        ("file,labels\na.jpg,\n", ("names no class",)),
        (f"file,labels\na.jpg,{'x' * 200_000}\n", ("field larger",)),
        ("file,labels\n".encode("utf-16"), ("UTF-8",)),
        ("file,labels\na.jpg,Bär\n".encode("latin-1"), ("UTF-8",)),
    ],
)
def test_a_fault_is_one_line_that_names_its_place(tmp_path, text, words):
    file = write(tmp_path, text)
    message = refused(read_table, file)
    assert message.startswith(f"{file}:") and all(word in message for word in words), message


@given(st.text(alphabet='file,;\t"\n\r 01a|=\0é', max_size=60))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    file = write(tmp_path_factory.getbasetemp(), f"file{text}", "fuzz.csv")
    try:
        read = read_table(file)
    except InputError as error:
        assert str(file) in str(error)
    else:
        assert read.labels and all(label < len(read.classes) for labels in read.labels.values() for label in labels)


def test_ten_thousand_rows_take_no_time(tmp_path):
    header = ["file", *(f"class {k}" for k in range(80))]
    rows = [[f"{i}.jpg", *("01"[(i + k) % 7 == 0] for k in range(80))] for i in range(10_000)]
    file = write(tmp_path, as_csv([header, *rows]))
    started = time.perf_counter()
    assert len(read_table(file).labels) == 10_000
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("cell", ["['cat', 'dog']", '["cat"]', "[]", "{'cat'}", "('cat',)"])
def test_a_list_as_a_program_writes_it_is_no_name(tmp_path, cell):
    text = as_csv([["file", "labels"], ["a.jpg", "cat"], ["b.jpg", cell]])
    assert "labels.csv:3: labels" in (message := refused(read_table, write(tmp_path, text))) and "a list" in message


def test_names_whose_words_recur_are_noted_where_nothing_else_divides_them(tmp_path):
    read = read_table(write(tmp_path, "file,tags\na.jpg,clear water\nb.jpg,water\n"))
    assert read.classes == ("clear water", "water")
    [note] = read.notes
    assert "1 class name with blanks" in note and "'clear water'" in note
    for tags in ("clear water;water", "small dog"):
        notes = read_table(write(tmp_path, f"file,tags\na.jpg,{tags}\n")).notes
        assert not any("blanks" in note for note in notes)


def test_names_that_differ_in_unicode_form_alone_and_addresses_are_refused(tmp_path):
    assert "Unicode form alone" in refused(read_table, write(tmp_path, "file,label\na.jpg,\u00e9\nb.jpg,e\u0301\n"))
    assert "is an address" in refused(read_table, write(tmp_path, "file,label\nhttps://a/b.jpg,cat\n"))
