//! Chat templates in the style of real models: rendered as transformers renders them, the assistant's words found.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use toedit::tokenizer::{ChatTemplate, Conversation};

/// In the style of ChatML.
const CHATML: &str = "\
{%- for message in messages %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

/// In the style of Llama 3.1: tools, trimming, a date, Python's methods.
const LLAMA: &str = "\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now('%d %b %Y') %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant', 'tool'] %}
        {{- raise_exception('no role ' + message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if 'tool_calls' in message %}
        {%- for call in message.tool_calls %}
            {{- '{\"name\": \"' + call.function.name + '\", \"parameters\": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}' }}
        {%- endfor %}
    {%- else %}
        {%- generation %}
        {{- message['content'].strip() }}
        {%- endgeneration %}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";

fn load(template: &str) -> ChatTemplate {
    try_load(template).unwrap()
}

fn try_load(template: &str) -> toedit::Result<ChatTemplate> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let special = [("bos_token", Some("<s>".to_owned())), ("eos_token", None)];
    Ok(ChatTemplate::from_folder(folder.path(), special)?.unwrap())
}

fn render(template: &str, messages: serde_json::Value) -> String {
    load(template).conversation(&messages.to_string()).unwrap().text
}

/// What the assistant said.
fn said(conversation: &Conversation) -> Vec<&str> {
    conversation.responses.iter().map(|range| &conversation.text[range.clone()]).collect()
}

#[track_caller]
fn assert_refused(template: &str, messages: &str, part: &str) {
    let message = load(template).conversation(messages).unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja: chat template: ") && message.contains(part), "{message}");
}

#[test]
fn chatml() {
    let messages = json!([
        {"role": "user", "content": "Hi, 東京\n"},
        {"role": "assistant", "content": " Hello <b>"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "Bye"},
    ]);
    let conversation = load(CHATML).conversation(&messages.to_string()).unwrap();
    assert_eq!(
        conversation.text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi, 東京\n<|im_end|>\n\
         <|im_start|>assistant\n Hello <b><|im_end|>\n<|im_start|>user\n<|im_end|>\n\
         <|im_start|>assistant\nBye<|im_end|>\n"
    );
    assert_eq!(said(&conversation), [" Hello <b><|im_end|>\n", "Bye<|im_end|>\n"]);
}

#[test]
fn llama_3() {
    let messages = json!([
        {"role": "system", "content": " Be kind. "},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"y": [2, 2.5], "a": "é<\""}}}]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "\n 4 \n"},
    ]);
    // As it stands in a file: `json!` sorts members.
    let raw = messages.to_string().replace(r#"{"a":"é<\"","y":[2,2.5]}"#, r#"{"y":[2,2.5],"a":"é<\""}"#);
    let conversation = load(LLAMA).conversation(&raw).unwrap();
    assert!(conversation.text.starts_with(
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2 + 2?"
    ));
    let call = r#"{"name": "add", "parameters": {"y": [2, 2.5], "a": "é<\""}}<|eot_id|>"#;
    assert_eq!(said(&conversation), [call, "4<|eot_id|>"]);
}

#[test]
fn the_language_of_real_templates() {
    let user = json!([{"role": "user", "content": "a</think>b \n", "n": null}]);
    for (template, expected) in [
        ("{{ messages[0].content.split('</think>')[-1].rstrip('\\n') }}", "b "),
        ("{{ messages[-1]['content'].startswith('a') }}{{ messages|length }}", "True1"),
        ("{% for m in messages[::-1] %}{% if loop.last %}{% break %}{% endif %}x{% endfor %}", ""),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "1",
        ),
        ("{% macro f(x, y='d') %}[{{ x }}{{ y }}]{% endmacro %}{{ f('a') }}", "[ad]"),
        ("{% if messages[0].n is none and messages[0].z is not defined %}yes{% endif %}", "yes"),
        ("{{ messages[0].content is string }}{{ messages[0] is mapping }}", "TrueTrue"),
        ("{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}", "a1"),
        (
            "{{ {'b': [1, {'c': none}], 'a': true} | tojson(indent=2) }}",
            "{\n  \"b\": [\n    1,\n    {\n      \"c\": null\n    }\n  ],\n  \"a\": true\n}",
        ),
        ("{# note #}\n  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ strftime_now('%Y') | length }}{{ eos_token is defined }}{{ bos_token }}", "4False<s>"),
        (
            "{{ loop_undefined }}{{ (messages | map(attribute='role') | list)[0] }}{{ ['a', 'b'] | join('-') }}",
            "usera-b",
        ),
        ("a\n", "a"),
    ] {
        assert_eq!(render(template, user.clone()), expected, "{template}");
    }
}

#[test]
fn what_a_template_cannot_do_is_refused_in_a_sentence() {
    let user = r#"[{"role": "user", "content": "x"}]"#;
    assert_refused("{{ raise_exception('only once') }}", user, "only once");
    assert_refused(LLAMA, r#"[{"role": "robot", "content": "x"}]"#, "no role robot");
    assert_refused("{{ messages[0].content.nothing.more }}", user, "undefined");
    assert_refused(
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        user,
        "fuel",
    );
    assert_refused("{{ 'x' * 100000000000 }}", user, "");
    assert_refused("{{ strftime_now('%Q') }}", user, "%Q");
    for messages in ["{}", "[1]", "[{}]", r#"[{"role": 1}]"#, "[", r#"[["role"]]"#] {
        assert_refused("x", messages, "messages: ");
    }
    for template in ["{% if %}", "{% include 'other' %}"] {
        let message = try_load(template).unwrap_err().to_string();
        assert!(message.contains("chat_template.jinja: chat template: syntax error"), "{message}");
    }
}

#[test]
fn a_template_that_rewrites_earlier_turns_is_refused() {
    let stripped =
        CHATML.replace("message['content']", "(message['content'] if loop.last else message.role)");
    let messages = json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
    ]);
    assert_refused(
        &stripped,
        &messages.to_string(),
        "at message 1: the assistant's words cannot be told apart",
    );
    let unheralded = CHATML.replace("<|im_start|>assistant", "<|im_start|>bot");
    assert_refused(&unheralded, &messages.to_string(), "cannot be told apart");
}

#[test]
fn the_template_is_found_where_models_have_it() {
    let folder = TempDir::new().unwrap();
    let open = || ChatTemplate::from_folder(folder.path(), [("bos_token", Some("<b>".to_owned()))]).unwrap();
    let text = || open().unwrap().conversation("[]").unwrap().text;
    let config = |value: serde_json::Value| {
        fs::write(folder.path().join("tokenizer_config.json"), value.to_string()).unwrap();
    };
    assert!(open().is_none());
    config(json!({"bos_token": "<s>"}));
    assert!(open().is_none());
    config(json!({"chat_template": "one {{ bos_token }}"}));
    assert_eq!(text(), "one <b>");
    let named = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "two {{ eos_token }}"}]);
    config(json!({"chat_template": named, "eos_token": {"content": "</s>", "lstrip": false}}));
    assert_eq!(text(), "two </s>");
    fs::write(folder.path().join("chat_template.jinja"), "three").unwrap();
    assert_eq!(text(), "three");
    config(json!(7));
    assert_eq!(text(), "three");
    fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
    let message = ChatTemplate::from_folder(folder.path(), []).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json: "), "{message}");
}

#[test]
fn the_real_template_of_smollm2() {
    let Some(folder) = std::env::var_os("TOEDIT_SMOLLM2").map(PathBuf::from) else {
        eprintln!("TOEDIT_SMOLLM2 is not set: not tested");
        return;
    };
    let Some(template) = ChatTemplate::from_folder(Path::new(&folder), []).unwrap() else {
        eprintln!("the base model has no template: not tested");
        return;
    };
    let messages = r#"[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]"#;
    let conversation = template.conversation(messages).unwrap();
    assert_eq!(
        conversation.text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
    );
    assert_eq!(said(&conversation), ["Ho<|im_end|>\n"]);
}
