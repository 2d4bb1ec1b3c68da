"""Amounts as text, converted to whole minor units.

Exponents are those of ISO 4217 (list one: active currencies, and some withdrawn ones for old
orders). Codes without a minor unit (metals, test codes, funds) are no currency of a shop.
"""

from __future__ import annotations

import re

from services.ingest.errors import AmountUnreadable
from services.ingest.vendors.shared.text import clean

NONE = "BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
TWO = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN
    BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP
    GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT
    LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO
    NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS
    SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VEF VES WST
    XCD XCG YER ZAR ZMW ZWG ZWL
"""
THREE = "BHD IQD JOD KWD LYD OMR TND"
FOUR = "CLF UYW"
EXPONENTS = {
    code: digits
    for digits, codes in ((0, NONE), (2, TWO), (3, THREE), (4, FOUR))
    for code in codes.split()
}
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
NO_CURRENCY = "XXX"  # ISO 4217's code for no currency, in the place of a malformed code
AMOUNT_MAX = 10**15  # in minor units; more is no amount of money
TEXT_CHARS_MAX = 100  # of an amount that cannot be counted
WHOLE_DIGITS_MAX = 15
AMOUNT = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,20}))?", re.ASCII)


def counted(text: str | None, digits: int | None) -> int | None:
    """Return the amount in minor units; None if it cannot be counted, for amounts on which no
    ticket depends. `digits` is None if the currency's number of digits is unknown.
    """
    if text is None or digits is None:
        return None
    try:
        amount_minor = minor(text, digits)
    except AmountUnreadable:
        return None
    return amount_minor if -AMOUNT_MAX <= amount_minor <= AMOUNT_MAX else None


def amount_text(text: object) -> str:
    """Return what the source wrote in the place of an amount or currency, fit to be stored; empty
    for nothing.
    """
    return "" if text is None else clean(str(text), TEXT_CHARS_MAX)


def minor(text: str, digits: int) -> int:
    """Return the amount in minor units: `12.5` of a currency with two digits is 1250. Zeros beyond
    its digits are ignored; nothing is ever rounded.
    """
    point = len(text) - digits - 1
    all_digits = text[:point] + text[point + 1 :]
    if (
        digits
        and 0 < point <= WHOLE_DIGITS_MAX
        and text[point] == "."
        and all_digits.isdecimal()
        and all_digits.isascii()
    ):
        return int(all_digits)  # the usual form
    match = AMOUNT.fullmatch(text)
    if match is None:
        raise AmountUnreadable("an amount is not a decimal number")
    sign, integer_part, fraction = match[1], match[2], match[3] or ""
    if fraction[digits:].strip("0"):
        raise AmountUnreadable(
            f"an amount has {len(fraction)} digits after the point, and its currency has {digits}"
        )
    number = int(integer_part + fraction[:digits].ljust(digits, "0"))
    return -number if sign else number
