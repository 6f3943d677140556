"""The profile for Kubernetes, with a kubectl that plays the cluster: pods become processes of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from checkout import Checkout

pytestmark = [pytest.mark.workflow]

# The first pod of a loss is lost before it begins. A pod has no variables but those that its job gives it.
KUBECTL = """\
#!{python}
import json, os, pathlib, subprocess, sys
folder, (verb, *rest) = pathlib.Path({folder!r}), sys.argv[1:]
if verb == "create":
    job = json.load(sys.stdin)
    name = f"{{job['metadata']['generateName']}}{{len(list(folder.glob('*.json')))}}"
    (folder / f"{{name}}.json").write_text(json.dumps(job))
    print(f"job.batch/{{name}}")
    script = pathlib.Path(job["spec"]["template"]["spec"]["containers"][0]["command"][1])
    if "evaluate" in script.name and not (folder / "lost").exists():
        (folder / "lost").touch()
    else:
        command = f"cd / && /bin/sh {{script}} > {{folder}}/{{name}}.log 2>&1; echo $? > {{folder}}/{{name}}.code"
        subprocess.Popen(["/bin/sh", "-c", command], env={{"PYTHONPATH": {source!r}, "PATH": os.environ["PATH"]}},
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / name).touch()
elif verb == "get":
    name = rest[0].removeprefix("job.batch/")
    code = folder / f"{{name}}.code"
    if not (folder / name).exists():
        sys.exit("Error from server (NotFound): jobs.batch not found")
    state = code.read_text().strip() if code.exists() else ""
    print(json.dumps({{"status": {{"succeeded": 1}} if state == "0" else {{"failed": 1}} if state else {{}}}}))
"""


def test_pods_get_the_volume_and_limits_and_a_lost_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="the extra `kubernetes` is not installed")
    checkout = Checkout(tmp_path / "checkout")
    checkout.params(models=[{"source": "zoo", "name": "gpt2-0.1m"}], formats=[], methods=[])
    pods, programs = tmp_path / "pods", tmp_path / "bin"
    pods.mkdir()
    programs.mkdir()
    kubectl = programs / "kubectl"
    facts = {"python": sys.executable, "folder": str(pods), "source": str(checkout.root / "src")}
    kubectl.write_text(KUBECTL.format(**facts), "utf-8")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    done = checkout.run("snakemake", "--profile", "workflow/profiles/kubernetes", "--latency-wait", "5", seconds=500)
    logs = "".join(path.read_text() for path in pods.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert checkout.view("index.html")
    jobs = [json.loads((pods / f"bitlaw-{i}.json").read_text())["spec"] for i in range(len(list(pods.glob("*.json"))))]
    # The model, its loss, the loss again with twice the limits, and the last three together.
    assert len(jobs) == 4
    first, again = (jobs[i]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] for i in (1, 2))
    assert 2 * int(first.removesuffix("M")) == int(again.removesuffix("M")) >= 4000
    assert 2 * jobs[1]["activeDeadlineSeconds"] == jobs[2]["activeDeadlineSeconds"]
    for job in jobs:
        pod = job["template"]["spec"]
        assert pod["volumes"] == [{"name": "project", "persistentVolumeClaim": {"claimName": "bitlaw"}}]
        assert pod["containers"][0]["volumeMounts"] == [{"name": "project", "mountPath": "/bitlaw"}]
