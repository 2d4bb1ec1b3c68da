"""The door: callbacks in over HTTP, each answered only when Kafka has it.

`__main__` is the process, `api` what a request goes through; `protocol` bounds what one connection
may send, and `connection`, `bodies` and `pace` bound all of them together; `standing` reports
whether Kafka takes callbacks; `publisher` awaits Kafka's word, `certificates` fetches those by
which PayPal signs.
"""
