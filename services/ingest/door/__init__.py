"""The door: callbacks in over HTTP, each answered only when Kafka has it.

`__main__` is the process, `api` what a request goes through; `connection`, `bodies` and `pace` bound what strangers may take,
`publisher` awaits Kafka's word, `certificates` fetches those by which PayPal signs.
"""
