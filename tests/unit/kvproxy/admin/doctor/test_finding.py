from kvproxy.admin.doctor.finding import Finding, Severity, exit_code


def of(severity: Severity) -> Finding:
    return Finding("c", severity, "r", "what", "seen", "mend")


def test_the_gravest_finding_decides_the_exit_code() -> None:
    note, warning, error = map(of, Severity)
    assert [exit_code(each) for each in ([], [note], [note, warning], [error, note])] == [
        0,
        0,
        1,
        3,
    ]


def test_json_names_the_severity() -> None:
    assert of(Severity.WARNING).as_json()["severity"] == "warning"
