"""What is personal data in a text, and what is not."""

from __future__ import annotations

import pytest

from speech.text.redaction.detection import find
from speech.text.redaction.kinds import PersonalData

REGIONS = ("CN", "US", "GB")
ALL = frozenset(PersonalData)


def found(
    text: str, kinds: frozenset[PersonalData] = ALL, regions: tuple[str, ...] = REGIONS
) -> list[tuple[str, str]]:
    return [(each.kind.value, text[each.start : each.end]) for each in find(text, kinds, regions)]


PHONES = """
call |13800138000| now
我的电话是|13800138000|谢谢
call |138 0013 8000| now
电话|１３８００１３８０００|。
it is |1-3-8-0-0-1-3-8-0-0-0|, right
|1, 3, 8, 0, 0, 1, 3, 8, 0, 0, 0|
one more: |one three eight double zero one three eight zero zero zero|
my number is |one three eight, double oh one three, eight thousand|.
|One-three-eight, zero zero one three, 8000|
打|幺三八零零一三八零零零|一下
我的电话是|一三八，零零一三，八零零零|。
我的电话是|一三八零零幺三八〇〇〇|，两点以前打
|138零零一三8000|
|138 嗯 0013 杠 8000|
|+86 138 0013 8000|
|0086 138 0013 8000|
|加86 138 0013 8000|
微信加|13912345678|
|010-62345678|，转三
|零一零六二三四五六七八|
|138 0013 8000|, |139 1234 5678|
|13800138000|和|13912345678|
打|13800138000|千万记得，|13912345678|元旦以后打，|13800138001|万一没人接
|13800138000|一百个放心
social security says to call |four one five five five five two six seven one|
|+44 20 7946 0958|
|+44.2079460958|
|+33 6 12 34 56 78| from abroad
|plus four four two zero seven nine four six oh nine five eight|
|020 7946 0958|
|oh two oh seven nine four six oh nine five eight|
call |(415) 555-2671|.
call |415-555-2671| or |415.555.2672|
|4155552671|
|415, 555, 2671|
|four one five, five five five, two six seven one|
|four fifteen five five five twenty six seventy one|
reach me at |two one two five five five oh one nine eight| one more time
|one eight hundred 555 0199| is free
"""

EMAILS = """
write to |john.smith@example.com|.
邮箱是|john_99@mail.example.com.cn|谢谢
|JOHN+news@EXAMPLE.COM|
it is |john dot smith at example dot com|, thanks
|john underscore smith one two three at mail dot example dot co dot uk|
|j o h n at gmail dot com|
|john at sign example.com|
邮箱是|zhangsan艾特163点com|谢谢
邮箱是|zhang点san圈a qq点com|
邮箱|一三八零零一三八零零零艾特一六三点com|
|john@example. com|
"""

CARDS = """
my card is |4111 1111 1111 1111|, thanks
卡号|6222021234567890128|。
|four one one one one one one one one one one one one one one one|
|四一一一，一一一一，一一一一，一一一一|
|3782 822463 10005|
|5555-5555-5555-4444|
"""

IDS = """
身份证号是|11010519491231002X|吗
身份证|110105 19491231 002x|
身份证是|一一零一零五，一九四九一二三一，零零二叉|
|536-90-4399|
my social security number is |536904399|
my SSN is, let me see, |five three six, nine zero, four three nine nine|
her taxpayer number: |912-90-3456|
national insurance |AB 12 34 56 C|
国民保险号|AB123456C|
IBAN |GB82 WEST 1234 5698 7654 32| please
pay to |DE89370400440532013000|
"""


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (kind, line)
        for kind, table in (("phone", PHONES), ("email", EMAILS), ("card", CARDS), ("id", IDS))
        for line in table.strip().splitlines()
    ],
)
def test_what_is_said_is_found(kind: str, line: str) -> None:
    assert found(line.replace("|", "")) == [(kind, part) for part in line.split("|")[1::2]]


NOTHING = """
in 2024 we paid 2,000,000,000 dollars
2000000000
13800000000 dollars
there are 13800000000 of them
$4155552671
4155552671元
about 41555526 percent
one two three
one two three four five six seven eight nine ten
1 2 3 4 5 6 7 8 9 10
10, 9, 8, 7, 6, 5, 4, 3, 2, 1
一二三四五六七八九十
from 1995 to 2005, in 2019, 2020, 2021
2024-03-15 10:30
at 10:30 or 12:45 on 12/11/2024
3.1415926535
the score was 21 15 19 21 22
we drew 26 60 34 11 27 47 85 89 29
we drew 21 1 64 56 61 74 16 0
population 7800000000
二零二四年三月十五日下午三点
三千五百万人，两千零二十六年
三点一四一五九二六五三五
room 101, 102, 103, 104
one of the two, or three
order 1234567890123456
4111 1111 1111 1112
110105194912310029
123 45 678
QQ 12 34 56 C
is 12 34 56 a number
IBAN GB82 WEST 1234 5698 7654 33
we are 12 people that met in the old town hall
look at example dot com
find us at example dot com
meet at noon. com
@longhand said so
一个 两次 三位 oh no
[PHONE] and [EMAIL]
"""


@pytest.mark.parametrize("line", NOTHING.strip().splitlines())
def test_what_is_no_personal_data_stays(line: str) -> None:
    assert found(line) == []


def test_only_what_is_asked_for_is_found() -> None:
    text = "13800138000, 4111 1111 1111 1111, a@example.com, 11010519491231002X"
    for kind, part in zip(("phone", "card", "email", "id"), text.split(", "), strict=True):
        assert found(text, frozenset({PersonalData(kind)})) == [(kind, part)]
    assert found(text, frozenset()) == []


def test_the_more_specific_wins() -> None:
    assert found("13800138000@163.com") == [("email", "13800138000@163.com")]
    assert found("13800138000@163.com", frozenset({PersonalData.PHONE})) == [("phone", "13800138000")]
    assert found("my social security number is 415555267") == [("id", "415555267")]


def test_regions_decide_on_numbers_without_a_plus() -> None:
    assert found("4155552671", regions=("CN",)) == []
    assert found("06 12 34 56 78", regions=("FR",)) == [("phone", "06 12 34 56 78")]
    assert found("+44 20 7946 0958", regions=()) == [("phone", "+44 20 7946 0958")]
