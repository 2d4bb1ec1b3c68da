"""What all services share: events and their envelope, topics, and the SQL migrations. It imports no
service.
"""
