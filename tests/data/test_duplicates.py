"""Identical images under several names."""

from __future__ import annotations

import pytest
from kit.checks import refused

from benchmark.data.duplicates import find_duplicates


def found(**lists):
    """Lists of paths, each the digest of its content but for the part behind a dash."""
    digests = {name: [path.partition("-")[0] for path in paths] for name, paths in lists.items()}
    return find_duplicates(lists, digests)


def test_images_that_all_differ_are_no_duplicates():
    none = found(train=["a", "b"], test=["c"])
    assert none.across == none.within == () and none.warning() == ""
    none.refuse()


def test_an_image_in_two_lists_is_named_with_both():
    duplicates = found(train=["a", "b", "b-2"], val=["c"], test=["d", "b-3", "a-2"])
    assert duplicates.across == ((("train", "a"), ("test", "a-2")), (("train", "b"), ("test", "b-3")))
    assert duplicates.within == ()
    message = refused(duplicates.refuse)
    assert "2 images listed twice" in message and "--allow-duplicates" in message
    assert "a in train.txt is a-2 in test.txt; b in train.txt is b-3 in test.txt:" in message


def test_an_image_twice_in_one_list_is_a_warning():
    duplicates = found(train=["a", "a-2", "a-3"], test=["b"])
    duplicates.refuse()
    assert duplicates.within == ((("train", "a"), ("train", "a-2")),)
    assert duplicates.warning().startswith("warning: 1 image listed twice under different names: a in train.txt is a-2")


@pytest.mark.parametrize(("count", "said"), [(3, "x2 in train.txt is x2-t in test.txt:"), (4, "; ...:")])
def test_of_many_the_first_are_named(count, said):
    paths = [f"x{i}" for i in range(count)]
    message = refused(found(train=paths, test=[f"{path}-t" for path in paths]).refuse)
    assert said in message and ("x3" in message) is False


def test_names_with_line_breaks_stay_on_a_line():
    assert "\n" not in refused(found(train=["a\n"], test=["a\n-2"]).refuse)
