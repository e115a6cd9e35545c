"""What the tests of the configuration share: a sound file, and every mistake that can be made in it."""

from __future__ import annotations

ROUTE = """
[[route]]
name = "payments"
topic = "orders.placed"

[route.target]
kind = "http"
url = "http://127.0.0.1:8080/payments"
"""

BAD: list[tuple[str, str, str, str]] = [
    # what is wrong, the file, the detail, the remedy
    ("unknown key", '[kafka]\nbootstap = "x"\n', "line 2: kafka.bootstap: unknown key", "did you mean 'bootstrap'?"),
    ("unknown section", "[kafak]\n", "line 1: kafak: unknown key", "did you mean 'kafka'?"),
    (
        "unknown key, nothing near",
        "[health]\nzzz = 1\n",
        "line 2: health.zzz: unknown key",
        "known here: listen",
    ),
    (
        "one bracket",
        ROUTE.replace("[[route]]", "[route]"),
        "line 2: route: must be a list in [ ], not a table",
        "write [[route]] with two brackets, one for each route",
    ),
    (
        "a member that Kafka would refuse",
        '[kafka]\nmember = "worker 1"\n',
        "line 2: kafka.member = 'worker 1': may hold only letters, digits, '.', '_' and '-'",
        "",
    ),
    (
        "a budget for no window",
        ROUTE + '[route.retry]\nbudget_window = "1h"\n',
        "line 10: route[payments].retry.budget_window = 3600000: must be at most 300000",
        "",
    ),
    (
        "unit in the key",
        ROUTE + "[route.claims]\nlease_ms = 4000\n",
        "line 10: route[payments].claims.lease_ms: unknown key",
        "did you mean 'lease'? Units go into the value: lease = \"30s\"",
    ),
    (
        "wrong type",
        ROUTE.replace("topic = ", 'concurrency = "16"\ntopic = '),
        "line 4: route[payments].concurrency = '16': must be a whole number, not text",
        "",
    ),
    (
        "true is no number",
        ROUTE.replace("topic = ", "concurrency = true\ntopic = "),
        "line 4: route[payments].concurrency = true: must be a whole number, not true or false",
        "",
    ),
    (
        "missing topic",
        ROUTE.replace('topic = "orders.placed"\n', ""),
        "line 2: route[payments].topic: is required, but missing",
        "add topic = …",
    ),
    (
        "missing name",
        ROUTE.replace('name = "payments"\n', ""),
        "line 2: route[#1].name: is required, but missing",
        "add name = …",
    ),
    (
        "missing target",
        '[[route]]\nname = "a"\ntopic = "t"\n',
        "line 1: route[a].target: is required, but missing",
        "",
    ),
    (
        "unknown kind",
        ROUTE.replace('kind = "http"', 'kind = "htp"'),
        "line 6: route[payments].target = 'htp': must be one of 'http', 'python', 'topic'",
        "did you mean 'http'?",
    ),
    (
        "no kind",
        ROUTE.replace('kind = "http"\n', ""),
        "line 6: route[payments].target: has no kind",
        'add kind = "http", "python" or "topic"',
    ),
    (
        "key of another kind",
        ROUTE + 'handler = "a:b"\n',
        "line 9: route[payments].target.handler: unknown key",
        "handler belongs to kind = 'python'",
    ),
    (
        "out of bounds",
        ROUTE + "[route.retry]\nin_place = 0\n",
        "line 10: route[payments].retry.in_place = 0: must be at least 1",
        "",
    ),
    (
        "share above one",
        ROUTE + "[route.retry]\njitter = 1.5\n",
        "line 10: route[payments].retry.jitter = 1.5: must be at most 1.0",
        "",
    ),
    (
        "choice",
        '[logging]\nlevel = "WARN"\n',
        "line 2: logging.level = 'WARN': must be one of 'debug', 'info', 'warning', 'error'",
        "did you mean 'warning'?",
    ),
    (
        "duration",
        ROUTE + '[route.claims]\nlease = "30 sec"\n',
        (
            "line 10: route[payments].claims.lease = '30 sec': must be a duration "
            '("250ms", "2s", "5m", "12h", "7d", or a whole number of milliseconds)'
        ),
        "",
    ),
    (
        "size",
        ROUTE + 'max_response_bytes = "1Mb"\n',
        (
            "line 9: route[payments].target.max_response_bytes = '1Mb': must be a size "
            '("64KiB", "1MiB", "2GiB", or a whole number of bytes)'
        ),
        "",
    ),
    (
        "topic name",
        ROUTE.replace("orders.placed", "orders placed"),
        "line 4: route[payments].topic = 'orders placed': may hold only letters, digits, '.', '_' and '-'",
        "",
    ),
    (
        "url",
        ROUTE.replace("http://127", "ftp://127"),
        (
            "line 8: route[payments].target.url = 'ftp://127.0.0.1:8080/payments': "
            "must be an http:// or https:// URL with a host, not 'ftp://127.0.0.1:8080/payments'"
        ),
        "",
    ),
    (
        "credentials in the url",
        ROUTE.replace("127.0.0.1:8080", "me:canary@127.0.0.1:8080"),
        "line 8: route[payments].target.url = 'http://***@127.0.0.1:8080/payments': must not carry a user or password",
        "send credentials in [route.target] headers",
    ),
    (
        "handler",
        '[[route]]\nname = "a"\ntopic = "t"\ntarget = { kind = "python", handler = "shop.capture" }\n',
        "line 4: route[a].target.handler = 'shop.capture': must be module:function, not 'shop.capture'",
        'for example: handler = "shop.handlers:capture"',
    ),
    (
        "bootstrap without port",
        '[kafka]\nbootstrap = "127.0.0.1"\n',
        "line 2: kafka.bootstrap = '127.0.0.1': must be host:port, not '127.0.0.1'",
        "",
    ),
    (
        "file that is not there",
        '[kafka]\nca_file = "/nowhere/ca.pem"\n',
        "line 2: kafka.ca_file = '/nowhere/ca.pem': no such file: /nowhere/ca.pem",
        "",
    ),
    (
        "masked password",
        "[kafka]\npassword = 12345\n",
        "line 2: kafka.password = ***: must be text in quotes, not a number",
        "",
    ),
    (
        "password without SASL",
        '[kafka]\npassword = "canary"\n',
        "line 2: kafka.password: is never sent with security_protocol = 'PLAINTEXT'",
        'set security_protocol = "SASL_SSL"',
    ),
    (
        "policy misspelt",
        ROUTE + '[route.claims]\non_redis_down = "fail-open"\n',
        (
            "line 10: route[payments].claims.on_redis_down = 'fail-open': must be one of 'block', 'fallback', "
            "'fail_open'"
        ),
        "did you mean 'fail_open'?",
    ),
    (
        "hold without a lane",
        ROUTE + '[route.dead_letter]\non_dead = "hold"\n',
        (
            "line 10: route[payments].dead_letter.on_dead = 'hold': needs order = 'key' and a retry lane, "
            "for held keys wait in the last lane"
        ),
        'add [route.retry] lanes = ["1m"], or set on_dead = "release"',
    ),
    (
        "order of the partition with lanes (I12)",
        ROUTE.replace("topic = ", 'order = "partition"\ntopic = ') + '[route.retry]\nlanes = ["1m"]\n',
        (
            "line 4: route[payments].order = 'partition': needs retry without lanes: a message in a lane would be "
            "overtaken by the rest of its partition"
        ),
        "remove lanes under [route.retry]; in_place attempts hold the partition, as many as you give",
    ),
    (
        "a lease too short to be renewed (I18)",
        ROUTE + '[route.claims]\nlease = "900ms"\n',
        "line 10: route[payments].claims.lease = '900ms': must be at least 1s, so that it can be renewed in time",
        "",
    ),
    (
        "drain and rebalance (I20)",
        ROUTE + '[route.shutdown]\ndrain = "1m"\n',
        (
            'line 10: route[payments].shutdown.drain = "1m": must end 6s before kafka.rebalance_timeout, which is 1m, '
            "or partitions are taken away while work is in hand (I20)"
        ),
        'set drain to at most "54s", or a longer rebalance_timeout',
    ),
    (
        "lanes must grow",
        ROUTE + '[route.retry]\nlanes = ["10s", "2s"]\n',
        "line 10: route[payments].retry.lanes: must grow: 2s comes after 10s",
        'for example: lanes = ["2s", "10s", "1m"]',
    ),
    (
        "equal lanes",
        ROUTE + '[route.retry]\nlanes = ["60s", "1m"]\n',
        "line 10: route[payments].retry.lanes: must grow: 1m comes after 1m",
        'for example: lanes = ["2s", "10s", "1m"]',
    ),
    (
        "base and max",
        ROUTE + '[route.retry]\nbase = "10s"\n',
        'line 10: route[payments].retry.base = "10s": must not be longer than max, which is 5s',
        "",
    ),
    (
        "a batch that can never be full",
        ROUTE + "batch = 64\n",
        (
            "line 9: route[payments].target.batch = 64: can never be reached with concurrency = 16: no more are at the "
            "target at once"
        ),
        "raise concurrency to a few times batch, so that several requests are under way",
    ),
    (
        "a header that would tear requests apart",
        ROUTE + 'headers = { Content-Length = "5" }\n',
        (
            "line 9: route[payments].target.headers: 'Content-Length' is written by the bridge: another value would "
            "tear requests apart"
        ),
        "",
    ),
    (
        "concurrency and in-flight limit",
        ROUTE.replace("topic = ", "max_in_flight = 600\nconcurrency = 700\ntopic = "),
        "line 5: route[payments].concurrency = 700: must not be more than max_in_flight, which is 600",
        "",
    ),
    (
        "breaker window",
        ROUTE + "[route.breaker]\nwindow = 3\n",
        "line 9: route[payments].breaker.min_failures = 5: can never be reached in a window of 3 outcomes",
        "",
    ),
    (
        "output is the source",
        ROUTE + '[route.output]\ntopic = "orders.placed"\nsubject = "s"\n',
        (
            "line 10: route[payments].output.topic = 'orders.placed': is the route's own topic: "
            "the route would feed itself for ever"
        ),
        "choose another topic",
    ),
    (
        "target is a lane",
        '[[route]]\nname = "a"\ntopic = "t"\ntarget = { kind = "topic", topic = "a.t.dlq" }\n',
        "line 4: route[a].target.topic = 'a.t.dlq': is a lane of this route: the route would feed itself for ever",
        "choose another topic",
    ),
    (
        "same name twice",
        ROUTE + ROUTE.replace("orders.placed", "others"),
        "line 11: route[payments].name = 'payments': is also the name of route #1",
        "give each route its own name",
    ),
    (
        "same group and topic",
        ROUTE + ROUTE.replace('"payments"\n', '"second"\ngroup = "payments"\n', 1),
        (
            "line 12: route[second].group = 'payments': route 'payments' already reads 'orders.placed' as group "
            "'payments'; offsets are per group"
        ),
        "give one of them another group",
    ),
    (
        "lanes of one name",
        ROUTE + ROUTE.replace('"payments"', '"payments.orders"', 1).replace("orders.placed", "placed"),
        (
            "line 10: route[payments.orders].group = 'payments.orders': its lane 'payments.orders.placed.redrive' is "
            "also one of route 'payments'"
        ),
        "give one of them another group",
    ),
    (
        "operations among events",
        '[operations]\ntopic = "orders.placed"\n' + ROUTE,
        "line 2: operations.topic = 'orders.placed': is also a topic of route 'payments': operations are not events",
        "give operations a topic of their own",
    ),
    (
        "lane name too long",
        ROUTE.replace("orders.placed", "t" * 240),
        f"line 4: route[payments].topic: its lane payments.{'t' * 31}… is 257 characters long; Kafka allows 249",
        "shorten group or topic: lanes are named {group}.{topic}.{lane}",
    ),
    (
        "allow_hosts without the url's host",
        ROUTE + 'allow_hosts = ["payments"]\n',
        "line 9: route[payments].target.allow_hosts: does not list the host of the target's own url, 127.0.0.1",
        "add '127.0.0.1' to the list, or leave it out",
    ),
    (
        "a registry that is no URL",
        '[registry]\nurl = "127.0.0.1:8081"\n',
        "line 2: registry.url = '127.0.0.1:8081': must be http:// or https:// URLs with a host",
        'for example: url = "http://127.0.0.1:8081"',
    ),
    (
        "a registry's password in its URL",
        '[registry]\nurl = "https://ann:canary@registry"\n',
        "line 2: registry.url = 'https://***@registry': must have no credentials, query or fragment",
        "set username and password beside it",
    ),
    (
        "half of a login",
        '[registry]\nurl = "https://registry"\npassword = "canary"\n',
        "line 1: registry.username: is required, since password is set",
        "",
    ),
    (
        "two ways to log in",
        '[registry]\nurl = "https://registry"\nusername = "u"\npassword = "canary"\ntoken = "canary"\n',
        "line 5: registry.token: is a bearer token, which cannot be sent beside username and password",
        "keep one of them",
    ),
]
