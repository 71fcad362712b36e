//! Prompts with responses, and conversations: only what answers is scored and edited.

use serde_json::{Value, json};

use crate::Place;
use crate::edit::{ALL, MANY};

/// Contents stand on lines of their own between words of the template.
pub const TEMPLATE: &str = "{% for message in messages %}{{ message.role + ':\n' + message.content + eos_token + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}";

/// What makes a record of prompt and response.
pub const FIELDS: &str = "--prompt-field q --response-field a";

/// A text that the model knows well, in two parts.
pub fn halves(place: &Place) -> (String, String) {
    let text = place.records("sample.jsonl")[0]["text"].as_str().unwrap().to_owned();
    let middle = text[..text.len() / 2].rfind('\n').unwrap();
    (text[..middle].to_owned(), text[middle..].to_owned())
}

/// A place with records of prompt and response, and the model with a chat template in `copy`.
pub fn place() -> Place {
    let place = Place::new();
    let (prompt, response) = halves(&place);
    let records = [
        json!({"id": 1, "q": prompt, "a": response, "n": 1.5}),
        json!({"id": 2, "q": "", "a": response}),
        json!({"id": 3, "q": response, "a": prompt.trim_start()}),
        json!({"id": 4, "q": "Who?", "a": ""}),
    ];
    place.put("in.jsonl", lines(&records));
    place.copy_model();
    place.put("copy/chat_template.jinja", TEMPLATE);
    place
}

pub fn lines(records: &[Value]) -> String {
    records.iter().map(|record| record.to_string() + "\n").collect()
}

/// Conversations about what the model knows well, in JSON as people and programs write it.
pub fn conversations(place: &Place) -> String {
    let (first, second) = halves(place);
    let (first, second) = (json!(first).to_string(), json!(second.trim_start()).to_string());
    format!(
        "{{ \"id\" : \"c\", \"messages\" : [ {{\"content\": {first}, \"role\" : \"user\"}},\n \
         {{\"role\":\"assistant\",\"content\": \"\\u0047\\/{}, \"x\":[1.50]}},\n \
         {{\"role\":\"user\",\"content\":\"and?\"}}, {{\"role\":\"assistant\",\"content\":{first}}} ] ,\"n\":1.0}}\n",
        &second[1..]
    )
    .replace(",\n", ",")
        + &json!({"messages": [{"role": "user", "content": "Hi"}]}).to_string()
        + "\n"
}

fn edits(record: &Value) -> &Vec<Value> {
    record["toedit"]["edits"].as_array().unwrap()
}

/// Positions and new ids.
fn changes(record: &Value) -> Vec<(u64, Value)> {
    edits(record).iter().map(|edit| (edit["position"].as_u64().unwrap(), edit["new_id"].clone())).collect()
}

#[test]
fn the_response_is_edited_as_in_the_whole_text() {
    let place = place();
    let (prompt, response) = halves(&place);
    let words = format!("--output - --provenance {ALL}");
    let records = place.edit(&format!("--input in.jsonl {FIELDS} {words}")).done().records();
    assert_eq!((&records[0]["q"], &records[0]["n"]), (&json!(prompt), &json!(1.5)));
    assert_ne!(records[0]["a"], json!(response));
    assert_eq!((&records[3]["a"], &records[3]["toedit"]["scored"]), (&json!(""), &json!(0)));
    assert!(edits(&records[0]).len() > 20 && records[0]["toedit"]["field"] == "a");

    // The same text, record id and positions: the same numbers.
    place.put("whole.jsonl", lines(&[json!({"id": 1, "text": prompt + &response})]));
    let whole = place.edit(&format!("--input whole.jsonl {words}")).done().records();
    let own = changes(&records[0]);
    let all = changes(&whole[0]);
    let behind: Vec<_> = all.iter().filter(|(position, _)| *position >= own[0].0).cloned().collect();
    assert_eq!(own, behind);
    assert!(own.len() < all.len());

    // Offsets count the response's bytes.
    let after = records[0]["a"].as_str().unwrap();
    for edit in edits(&records[0]).iter().filter(|edit| edit["old"].is_string() && edit["new"].is_string()) {
        let range = |start: &str, end: &str| {
            edit[start].as_u64().unwrap() as usize..edit[end].as_u64().unwrap() as usize
        };
        assert_eq!(response[range("byte_start", "byte_end")], *edit["old"].as_str().unwrap());
        assert_eq!(after[range("out_byte_start", "out_byte_end")], *edit["new"].as_str().unwrap());
    }
}

#[test]
fn prompts_are_context_and_are_not_scored() {
    let place = place();
    let (prompt, response) = halves(&place);
    place.put(
        "whole.jsonl",
        lines(&[json!({"text": format!("{prompt}{response}")}), json!({"text": response})]),
    );
    let whole = place.score("--input whole.jsonl --output - --per-token").done().records();
    let behind = place.score(&format!("--input in.jsonl --output - --per-token {FIELDS}")).done().records();
    let alone = place.score(&format!("--input in.jsonl --output - --per-token --no-prompt-context {FIELDS}"));
    let alone = alone.done().records();

    let logprobs = |record: &Value| record["logprobs"].as_array().unwrap().clone();
    let (whole_logprobs, own) = (logprobs(&whole[0]), logprobs(&behind[0]));
    assert_eq!(behind[0]["input_ids"], whole[0]["input_ids"]);
    let first = own.iter().position(|logprob| !logprob.is_null()).unwrap();
    assert!(first > 10 && own[first..] == whole_logprobs[first..]);
    assert_eq!(behind[0]["scored"], json!(own.len() - first));
    // Without a prompt, or without it as context, the response stands alone.
    for record in [&behind[1], &alone[0], &alone[1]] {
        for name in ["input_ids", "logprobs", "nll", "scored", "tokens"] {
            assert_eq!(record[name], whole[1][name], "{name}");
        }
    }
    assert_ne!(own[first..], logprobs(&alone[0])[..]);
    assert_eq!((&behind[3]["scored"], &behind[3]["perplexity"]), (&json!(0), &Value::Null));
}

#[test]
fn a_response_under_another_prompt_draws_other_numbers() {
    let place = place();
    let (_, response) = halves(&place);
    place.put("in.jsonl", lines(&[json!({"q": "One", "a": response}), json!({"q": "Two", "a": response})]));
    for context in ["", "--no-prompt-context"] {
        let records =
            place.edit(&format!("--input in.jsonl --output - --provenance {ALL} {FIELDS} {context}")).done();
        let records = records.records();
        assert_ne!(records[0]["a"], records[1]["a"]);
    }
}

#[test]
fn only_what_the_assistant_says_changes() {
    let place = place();
    let input = conversations(&place);
    place.put("in.jsonl", &input);
    for context in ["", "--no-prompt-context"] {
        let words = format!(
            "edit --model copy --input in.jsonl --output out.jsonl --overwrite --provenance {context} {MANY}"
        );
        place.run(&words).done();
        let out = place.read("out.jsonl");
        let records = place.records("out.jsonl");
        let changed = edits(&records[0]);
        let of = |message: u64| changed.iter().filter(|edit| edit["message"] == message).count();
        assert_eq!((of(0), of(2), of(1) + of(3)), (0, 0, changed.len()));
        assert!(of(1) > 5 && of(3) > 5, "{} {}", of(1), of(3));
        // What stands around the contents is as it was.
        let (line, original) = (out.lines().next().unwrap(), input.lines().next().unwrap());
        let start = original.find(r"\u0047").unwrap();
        assert_eq!(&line[..start], &original[..start]);
        for part in [
            r#", "x":[1.50]}, {"role":"user","content":"and?"}, {"role":"assistant","content":""#,
            r#"} ] ,"n":1.0,"toedit":{"#,
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        assert_eq!(records[1]["toedit"]["scored"], 0);
        let back = place.run("revert out.jsonl --output -").done();
        // Escapes inside changed tokens come back as the characters that they spell.
        let plain = |text: &str| text.replace("\\u0047", "G").replace("\\/", "/");
        assert_eq!(plain(&back.stdout), plain(&input));
    }
}

#[test]
fn the_edits_of_responses_are_undone() {
    let place = place();
    for context in ["", "--no-prompt-context"] {
        place
            .edit(&format!(
                "--input in.jsonl --output out.jsonl --overwrite --provenance {FIELDS} {context} {MANY}"
            ))
            .done();
        assert_eq!(
            place.run("revert out.jsonl --output - --response-field a").done().stdout,
            place.read("in.jsonl")
        );
    }
    let other = place.run("revert out.jsonl --output - --text-field q");
    other.fails(&["out.jsonl:1", "the edits are of the field `a`: give --text-field a"]);
}

#[test]
fn conversations_are_scored_turn_by_turn() {
    let place = place();
    place.put(
        "in.jsonl",
        json!({"messages": [
            {"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi there"},
            {"role": "assistant", "content": "Hello you"}, {"role": "tool", "content": "x"},
            {"role": "assistant", "content": "So long"},
        ]})
        .to_string(),
    );
    let words = "score --model copy --input in.jsonl --output - --per-token";
    let behind = place.run(words).done().records().remove(0);
    let alone = place.run(&format!("{words} --no-prompt-context")).done().records().remove(0);
    let scored = |record: &Value| -> Vec<u64> {
        let ids = record["input_ids"].as_array().unwrap().iter().zip(record["logprobs"].as_array().unwrap());
        ids.filter(|(_, logprob)| !logprob.is_null()).map(|(id, _)| id.as_u64().unwrap()).collect()
    };
    // The tokenizer puts a token before each text, so that all of a text alone is scored.
    assert_eq!(scored(&behind), scored(&alone));
    assert_eq!(alone["scored"], alone["tokens"]);
    assert!(behind["tokens"].as_u64() > alone["tokens"].as_u64());
    place.put("texts.jsonl", lines(&[json!({"text": "Hello you"}), json!({"text": "So long"})]));
    let texts = place.score("--input texts.jsonl --output -").done().records();
    let nll: f64 = texts.iter().map(|record| record["nll"].as_f64().unwrap()).sum();
    assert!((alone["nll"].as_f64().unwrap() - nll).abs() < 1e-6);
}

#[test]
fn a_template_that_changes_words_lets_the_conversation_pass() {
    let place = place();
    place.put("copy/chat_template.jinja", "{% for m in messages %}{{ m.content | upper }}{% endfor %}");
    let line = json!({"messages": [{"role": "assistant", "content": "Hello you"}]}).to_string() + "\n";
    place.put("in.jsonl", &line);
    let outcome = place
        .run("edit --model copy --input in.jsonl --output - --no-metadata --resample-above 0")
        .exits_with(3);
    assert_eq!(outcome.stdout, line);
    let reason = "1 passed through (the chat template changes what the assistant says)";
    assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    let outcome = place.run("score --model copy --input in.jsonl --output -").exits_with(3);
    assert!(outcome.stderr.contains(reason) && outcome.records()[0]["scored"] == 0);
    // Alone they need no template.
    place.run("edit --model tiny --input in.jsonl --output - --no-prompt-context").done();
}

#[test]
fn a_long_prompt_meets_the_windows() {
    let place = place();
    let (prompt, response) = halves(&place);
    place.put("in.jsonl", lines(&[json!({"q": prompt.repeat(6), "a": response})]));
    place.put("whole.jsonl", lines(&[json!({"text": prompt.repeat(6) + &response})]));
    let words = "--output - --per-token --max-length 64 --overlap 16";
    let behind = place.score(&format!("--input in.jsonl {FIELDS} {words}")).done().records().remove(0);
    let whole = place.score(&format!("--input whole.jsonl {words}")).done().records().remove(0);
    let logprobs = |record: &Value| record["logprobs"].as_array().unwrap().clone();
    let (own, all) = (logprobs(&behind), logprobs(&whole));
    let first = own.iter().position(|logprob| !logprob.is_null()).unwrap();
    assert!(first > 64 && own[first..] == all[first..]);
    // Truncated, nothing is left to score.
    let cut = place.score(&format!("--input in.jsonl {FIELDS} --output - --max-length 64 --truncate")).done();
    assert_eq!(cut.records()[0]["scored"], 0);
    assert!(cut.stderr.contains("beyond the window"), "{}", cut.stderr);
}

#[test]
fn ids_stand_beside_responses_but_not_for_conversations() {
    let place = place();
    let both =
        place.edit(&format!("--input in.jsonl --output out.jsonl --emit both --provenance {FIELDS} {MANY}"));
    both.done();
    let ids = place.score(&format!("--input in.jsonl --output - --per-token {FIELDS}")).done().records();
    let back = place.run("revert out.jsonl --output - --text-field a").done().records();
    for (back, ids) in back.iter().zip(&ids).take(3) {
        assert_eq!(back["input_ids"], ids["input_ids"]);
    }
    place.put("in.jsonl", conversations(&place));
    let refused = place.run("edit --model copy --input in.jsonl --output out.jsonl --overwrite --emit ids");
    refused.fails(&["in.jsonl:1", "a conversation stays text, expected --emit both"]);
    let both = place.run("edit --model copy --input in.jsonl --output - --emit both").done().records();
    assert!(both[0]["input_ids"].is_array() && both[0]["messages"].is_array());
}

#[test]
fn edits_of_messages_are_shown() {
    let place = place();
    place.put("in.jsonl", conversations(&place));
    let shown = place.run(&format!("edit --model copy --input in.jsonl --diff {MANY}")).done().stdout;
    for part in
        ["\n[0] user: Geography", "\n[1] assistant: ", "\n[2] user: and?\n", "\n[3] assistant: ", "[-"]
    {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    place
        .run(&format!(
            "edit --model copy --input in.jsonl --output out.jsonl --provenance {MANY} --generations 2"
        ))
        .done();
    let inspected = place.run("inspect out.jsonl --quiet").done().stdout;
    for part in
        ["generation 1\n[0] user: ", "generation 0\n[0] user: ", "[2] user: and?\n", "{+", "[0] user: Hi\n"]
    {
        assert!(inspected.contains(part), "no {part:?} in {inspected}");
    }
    place.run("inspect out.jsonl --html page.html --quiet").done();
}

#[test]
fn what_is_missing_is_named() {
    let place = place();
    let edit = |words: &str| place.edit(&format!("--input in.jsonl --output - {words}"));
    edit("--prompt-field x --response-field a")
        .fails(&["in.jsonl:1", "field `x` not found, the prompt of the text"]);
    edit("--prompt-field q --response-field x").fails(&["in.jsonl:1", "`x`"]);
    edit("--prompt-field n --response-field a").fails(&["in.jsonl:1", "invalid type"]);
    let twice = edit("--prompt-field a --response-field a");
    twice.fails_with(2, &["prompt and response are both the field `a`"]);
    assert_eq!(edit("--prompt-field q").status, 2);
    place.put("in.jsonl", conversations(&place));
    edit("").fails(&["in.jsonl:1", "tiny has no chat template", "--no-prompt-context"]);
    place.put("in.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\\ud800\"}]}\n");
    edit("--no-prompt-context").fails(&["in.jsonl:1", "messages: "]);
}

#[test]
fn records_that_cannot_be_used_are_set_aside() {
    let place = place();
    let bad = "{\"q\":\"no answer\"}\n{\"messages\":[{\"role\":1}]}\n{\"a\":\"no prompt\"}\n";
    place.put("in.jsonl", bad.to_owned() + &place.read("in.jsonl"));
    for command in ["edit", "score"] {
        let words = format!(
            "{command} --model tiny --input in.jsonl --output {command}.jsonl --on-error skip {FIELDS}"
        );
        let outcome = place.run(&words).exits_with(3);
        assert!(
            outcome.stderr.contains("7 documents") && outcome.stderr.contains("3 set aside"),
            "{}",
            outcome.stderr
        );
        assert_eq!(place.records(&format!("{command}.jsonl")).len(), 4);
        let reasons: Vec<_> = place
            .records(&format!("{command}.jsonl.rejects"))
            .iter()
            .map(|r| r["reason"].to_string())
            .collect();
        for (reason, part) in reasons.iter().zip(["`a`", "messages: ", "field `q` not found"]) {
            assert!(reason.contains(part), "{reason}");
        }
        place.run(&format!("{words} --resume")).done();
        place
            .run(&format!("{words} --resume --no-prompt-context"))
            .fails(&["`prompt_context` was true and is false"]);
    }
}
