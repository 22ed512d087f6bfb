"""What `rapport serve` is told by its environment where it serves a stack on this machine."""

from __future__ import annotations

from rapport.local.stack.running import AWS_KEY_ID, AWS_REGION, MEDIA_BUCKET, Stack

# a developer's own projects, profiles and keys lead to the real services
FORGOTTEN = (
    "AWS_",
    "METAKOCKA_",
    "SERVE_",
    "SUPABASE_",
    "VAPID_",
    "WAKE_",
    "WEBHOOK_",
    "WHATSAPP_",
)


def environment(stack: Stack) -> dict[str, str]:
    """All its variables."""
    return project_values(stack) | aws_values(stack) | _own_values(stack)


def project_values(stack: Stack) -> dict[str, str]:
    """What a deployment keeps in parameters, from the stack's settings."""
    return {
        "SUPABASE_URL": stack.url,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "WHATSAPP_APP_SECRET": stack.whatsapp_app_secret,
        "WHATSAPP_VERIFY_TOKEN": stack.whatsapp_verify_token,
        "WHATSAPP_GRAPH_URL": stack.graph_url,
        "WHATSAPP_TOKEN": stack.whatsapp_token,
        "METAKOCKA_URL": stack.metakocka_url,
        "METAKOCKA_SECRET_KEY": stack.metakocka_secret_key,
        "METAKOCKA_COMPANIES": "any",
        "WAKE_SECRET": stack.wake_secret,
        "VAPID_PRIVATE_KEY": stack.vapid_private_key,
        "VAPID_CONTACT": "mailto:somebody@rapport.example",
        "PUSH_ALLOWS_LOOPBACK": "true",
        # workers run in the server's process, and no alarm listens
        "WORKER_FUNCTION_PREFIX": "",
        "METRICS_NAMESPACE": "",
        "MEDIA_BUCKET": MEDIA_BUCKET,
        "WEBHOOK_QUEUE_URL": stack.queue_url("WebhookQueue"),
        # a database that was stopped on this machine is back soon
        "WEBHOOK_RETRY_SECONDS": "1",
    }


def aws_values(stack: Stack) -> dict[str, str]:
    """What Lambda's runtime sets; here for the stand-in for AWS."""
    return {
        "AWS_REGION": AWS_REGION,
        "AWS_DEFAULT_REGION": AWS_REGION,
        "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": stack.aws_secret,
        "AWS_ENDPOINT_URL": stack.aws_url,
        # tells the storage that it is not AWS's own
        "AWS_ENDPOINT_URL_S3": stack.aws_url,
    }


def _own_values(stack: Stack) -> dict[str, str]:
    others = (
        f"{stack.postgrest_url}/",
        f"{stack.url}/health",
        f"{stack.whatsapp_url}/health",
        f"{stack.metakocka_fake_url}/health",
        f"{stack.aws_url}/health",
    )
    return {
        "SERVE_HOST": stack.listen,
        "PORT": str(stack.functions_port),
        # less than the supervisor's patience
        "SERVE_DRAIN_SECONDS": "4",
        "SERVE_WAITS_FOR": ",".join(others),
        "SERVE_FILES_URL": stack.aws_url,
    }
