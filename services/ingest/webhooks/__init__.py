"""The webhook endpoint: callbacks over HTTP, each answered only when Kafka has acknowledged it.

`__main__` is the process and `app` handles a request. `protocol` bounds what one connection may
send; `connections`, `bodies` and `rate_limit` bound all of them together. `readiness` reports
whether Kafka takes callbacks, `publisher` awaits its acknowledgements, `certificates` fetches the
certificates with which PayPal signs.
"""
