"""Objects of registered types arrive as what they were."""

import datetime
import decimal

import money

import pycomnet
from pycomnet.blocking import Group


def doubled(price, when):
    import datetime

    from money import Money

    return Money(2 * price.amount, price.currency), when + datetime.timedelta(days=1)


money.register(pycomnet.register_type)
with Group(types=[money]) as group:
    gateway = group.makegateway("popen")
    price = money.Money(decimal.Decimal("20.50"), money.Currency.EUR)
    price, when = gateway.call(doubled, price, datetime.date(2026, 1, 1))
    assert price.amount == 41
    assert price.currency is money.Currency.EUR
    assert when == datetime.date(2026, 1, 2)
