"""The function host: does the part of API Gateway, Lambda and SQS, as serverless.yml says."""
