"""The function host: what API Gateway, Lambda and SQS do, read from serverless.yml."""
