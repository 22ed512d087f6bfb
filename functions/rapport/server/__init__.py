"""`rapport serve`: the functions of serverless.yml as one process.

It does the part of API Gateway, Lambda, EventBridge and SQS.
"""
