"""Reads the rendered chart from stdin and an audit log; called by `rights`, which says what for."""

import json
import sys

import yaml

# What came with the cluster gives more rights to everybody: asking what is served is no right of ours.
SYSTEM = "system:serviceaccount:"


def key(group, resource, verb):
    return f"{verb} {resource}{'.' + group if group else ''}"


def granted(objects, role):
    """The rights of a role as {verb resource.group}."""
    rules = [rule for one in objects if one["metadata"]["name"] in role and one["kind"].endswith("Role") for rule in one["rules"]]
    return {
        key(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(log, is_account):
    """The rights that an account used, and those that it asked for in vain."""
    used, refused = set(), set()
    for line in open(log, encoding="utf-8"):
        event = json.loads(line)
        about = event.get("objectRef", {})
        # A pod that outlives its account is known as nobody.
        if "resource" not in about or not is_account(event["user"].get("username", "")):
            continue
        resource = "/".join(filter(None, [about["resource"], about.get("subresource")]))
        status = event.get("responseStatus", {}).get("code")
        verbs = {event["verb"]}
        if event["verb"] == "patch" and status == 201:
            verbs.add("create")
        right = {key(about.get("apiGroup", ""), resource, verb) for verb in verbs}
        (refused if status == 403 else used).update(right)
    return used, refused - used


def main():
    objects = [one for one in yaml.safe_load_all(sys.stdin) if one]
    wrong = []
    operator = "falcon-operator"
    for who, roles, is_account in [
        ("the operator", {operator, f"{operator}-leader"}, lambda name: name == f"{SYSTEM}falcon-system:{operator}"),
        ("a cache", {"falcon-cache"}, lambda name: name.startswith(f"{SYSTEM}test-")),
    ]:
        have = granted(objects, roles)
        # Handing on a role is asked for inside another request, and in no log.
        have -= {right for right in have if right.startswith("bind ")}
        need, refused = used(sys.argv[1], is_account)
        print(f"{who}: {len(have)} rights, {len(need & have)} of them used")
        wrong += [f"{who} was refused: {right}" for right in sorted(refused)]
        wrong += [f"{who} never uses: {right}" for right in sorted(have - need)]
    sys.exit("\n".join(wrong) or None)


main()
