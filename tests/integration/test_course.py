"""A course: one click, and its notebook is open; what a student wrote stays."""

from __future__ import annotations

NOTEBOOK = "courses/ml101/week1/intro.ipynb"


def test_a_course_starts_on_its_partition_and_brings_its_notebook(site, person):
    mia = person("mia")
    mia.start(profile="ml101")
    (job,) = site.jobs("mia")
    assert site.run("squeue", "-h", "-j", job, "-o", "%P %a").split() == ["teaching", "teaching"]
    answer = mia.get(f"/api/contents/{NOTEBOOK}")
    assert answer.status_code == 200
    assert "Week 1" in answer.json()["content"]["cells"][0]["source"]
    landing = mia.get("/", allow_redirects=False)
    assert landing.headers["Location"].rstrip("?").endswith(f"/lab/tree/{NOTEBOOK}")


def test_the_courses_notebook_runs(person):
    noah = person("noah")
    noah.start(profile="ml101")
    printed = noah.shell(
        f"jupyter nbconvert --to notebook --execute --stdout ~/{NOTEBOOK} 2>&1 | tail -n 200"
    )
    assert "slope 3" in printed or "slope 2.9" in printed, printed


def test_what_a_student_wrote_is_never_overwritten(person):
    mia = person("mia")
    mia.start(profile="ml101")
    mia.shell(
        f'echo \'{{"cells": [], "metadata": {{}}, "nbformat": 4, "nbformat_minor": 5}}\' > ~/{NOTEBOOK}'
    )
    mia.end_session()
    mia.start(profile="ml101")
    assert mia.shell(f"cat ~/{NOTEBOOK}").startswith('{"cells": []')
    mia.shell("rm -r ~/courses")


def test_a_course_is_for_its_group(person):
    refused = person("ravi").ask(profile="ml101")
    assert refused.status_code == 400
    assert "profile" in refused.json()["message"]
