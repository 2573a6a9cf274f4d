import json
from pathlib import Path

import pytest
from jinja2 import TemplateError

from kvproxy.adapters.local_tokens.conversation import UnlikeError
from kvproxy.adapters.local_tokens.template import ChatTemplate


def write(folder: Path, template: object, **config: object) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, **config}))
    return folder


USER = {"messages": [{"role": "user", "content": "hi"}]}


def test_a_template_sees_messages_tokens_and_filters(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% break %}{% endfor %}"
    template += "|{{ x | tojson }}"
    made = ChatTemplate(write(tmp_path, template, bos_token={"content": "<s>"}))
    body = USER | {"chat_template_kwargs": {"x": {"é": [1.0, "<"]}}}
    assert made.render(body) == '<s>hi|{"é": [1.0, "<"]}'


def test_a_file_of_its_own_wins(tmp_path: Path) -> None:
    write(tmp_path, "config")
    (tmp_path / "chat_template.jinja").write_text("file")
    assert ChatTemplate(tmp_path).render(USER) == "file"


def test_tools_may_have_a_template_of_their_own(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    made = ChatTemplate(write(tmp_path, named))
    assert made.render(USER) == "plain"
    assert made.render(USER | {"tools": [{"function": {"name": "f"}}]}) == "tools"


def test_templates_that_go_through_parts_are_given_parts(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% for c in m['content'] %}[{{ c.text }}]{% endfor %}{% endfor %}"
    )
    assert ChatTemplate(write(tmp_path, template)).render(USER) == "[hi]"


def test_developers_are_the_system_where_a_template_does_not_know_them(tmp_path: Path) -> None:
    made = ChatTemplate(write(tmp_path, "{% for m in messages %}{{ m.role }} {% endfor %}"))
    developer = {"role": "developer", "content": "x"}
    assert made.render({"messages": [developer, *USER["messages"]]}) == "system user "
    with pytest.raises(UnlikeError):
        made.render({"messages": [developer, {"role": "system", "content": "y"}]})


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ messages[9].x }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_what_a_template_refuses_is_unlike(tmp_path: Path, template: str) -> None:
    with pytest.raises(UnlikeError):
        ChatTemplate(write(tmp_path, template)).render(USER)


def test_what_is_no_template(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no chat template"):
        ChatTemplate(tmp_path)
    with pytest.raises(TemplateError):
        ChatTemplate(write(tmp_path, "{% generation %}"))
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match="not an object"):
        ChatTemplate(tmp_path)
