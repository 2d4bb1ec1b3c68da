"""The senders: as many processes as the mails need. Each leases due jobs, renders, sends, and
records the results.
"""
