"""The language everyone speaks: events and their envelope, topics, the SQL migrations. Imports no
service.
"""
