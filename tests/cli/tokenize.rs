//! `toedit tokenize`: text, ids, prompts with responses and conversations become token shards.
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a document may have a single run of tokens that carry loss"
)]

use std::io::Write;
use std::ops::Range;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use toedit::data::tokens::{TokenDocument, TokenShards};
use toedit::tokenizer::Tokenizer;

use crate::{Outcome, Place};

/// The end of text of the model `tiny`, which its tokenizer also puts before a text.
const EOS: u32 = 0;

/// ChatML with the one special token that `tiny` has as a turn's end.
const TEMPLATE: &str = "{% for message in messages %}{{ message.role + ': ' + message.content + eos_token + '\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";

fn tokenize(place: &Place, words: &str) -> Outcome {
    place.run(&format!("tokenize --model tiny {words}"))
}

fn open(place: &Place) -> TokenShards {
    TokenShards::open(&place.path("out")).unwrap()
}

fn documents(place: &Place) -> Vec<TokenDocument> {
    let shards = open(place);
    (0..shards.documents()).map(|index| shards.document(index).unwrap()).collect()
}

fn tokenizer(place: &Place) -> Tokenizer {
    Tokenizer::from_file(place.path("tiny/tokenizer.json")).unwrap()
}

/// The text of some of a document's tokens.
fn decode(place: &Place, ids: &[u32], range: Range<usize>) -> String {
    let tokenizer = tokenizer(place);
    let bytes: Vec<u8> = ids[range].iter().flat_map(|&id| tokenizer.bytes(id).to_vec()).collect();
    String::from_utf8(bytes).unwrap()
}

/// The text of the tokens that carry loss.
fn trained(place: &Place, document: &TokenDocument) -> Vec<String> {
    document.loss.iter().map(|run| decode(place, &document.ids, run.clone())).collect()
}

#[test]
fn texts_and_ids_in_order() {
    let place = Place::with_input(
        "{\"text\": \"The first.\"}\n{\"text\": \"\"}\n{\"input_ids\": [5, 6, 4095]}\n{\"input_ids\": []}\n",
    );
    place.put("more/b.txt", "A file\nof text.");
    place.put("more/a.jsonl.gz", crate::formats::gzip(b"{\"text\": \"zipped\"}"));
    let outcome = tokenize(&place, "--input in.jsonl more --output out --summary sum.json").done();
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("6 documents"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("1 empty") && outcome.stderr.contains("in 1 shard"),
        "{}",
        outcome.stderr
    );
    let tokenizer = tokenizer(&place);
    let text = |text: &str| [&[EOS], &tokenizer.encode(text).unwrap()[..]].concat();
    let expected =
        [text("The first."), vec![EOS], vec![5, 6, 4095], vec![], text("zipped"), text("A file\nof text.")];
    let found: Vec<_> = documents(&place).into_iter().map(|document| document.ids).collect();
    assert_eq!(found, expected);
    let (summary, manifest) = (place.json("sum.json"), place.json("out/tokens.json"));
    let tokens: usize = expected.iter().map(Vec::len).sum();
    for (key, value) in [("documents", 6), ("empty", 1), ("tokens", tokens), ("loss_tokens", tokens)] {
        assert_eq!(summary[key], value, "{key}");
    }
    assert_eq!((&manifest["vocab_size"], &manifest["eos_token_id"]), (&json!(4096), &json!(EOS)));
    assert_eq!(manifest["response_spans"], false);
}

#[test]
fn the_beginning_of_a_text_is_chosen() {
    let place = Place::with_input("{\"text\": \"ab\"}\n{\"input_ids\": [7]}\n");
    let lens = |bos: &str| {
        tokenize(&place, &format!("--input in.jsonl --output out --overwrite --bos {bos}")).done();
        documents(&place).into_iter().map(|document| document.ids.len()).collect::<Vec<_>>()
    };
    let plain = tokenizer(&place).encode("ab").unwrap().len();
    assert_eq!(lens("auto"), [plain + 1, 1]);
    assert_eq!(lens("always"), [plain + 1, 2]);
    assert_eq!(lens("never"), [plain, 1]);
}

#[test]
fn only_the_response_carries_loss() {
    let place = Place::with_input(
        "{\"q\": \"What is it?\", \"a\": \" A tree.\"}\n{\"q\": \"Nothing\", \"a\": \"\"}\n\
         {\"q\": \"hel\", \"a\": \"lo there\"}\n{\"input_ids\": [5, 6]}\n",
    );
    tokenize(&place, "--input in.jsonl --output out --prompt-field q --response-field a").done();
    assert_eq!(place.json("out/tokens.json")["response_spans"], true);
    let documents = documents(&place);
    assert_eq!(
        decode(&place, &documents[0].ids, 1..documents[0].ids.len()),
        "What is it? A tree.<|endoftext|>"
    );
    assert_eq!(trained(&place, &documents[0]), [" A tree.<|endoftext|>"]);
    assert_eq!(trained(&place, &documents[1]), ["<|endoftext|>"]);
    let split = trained(&place, &documents[2]).concat();
    assert!("hello there<|endoftext|>".ends_with(&split) && split.contains("lo there"), "{split}");
    assert_eq!(documents[3], TokenDocument { ids: vec![5, 6], loss: vec![0..2] });
}

#[test]
fn the_assistants_turns_carry_loss() {
    let messages = json!({"messages": [
        {"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello you"},
        {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "So long"},
    ]});
    let place = Place::with_input(&format!("{messages}\n"));
    let refused = tokenize(&place, "--input in.jsonl --output out");
    refused.fails(&["in.jsonl:1", "tiny has no chat template"]);
    place.copy_model();
    place.put("copy/chat_template.jinja", TEMPLATE);
    place.run("tokenize --model copy --input in.jsonl --output out").done();
    let document = &documents(&place)[0];
    assert_eq!(
        decode(&place, &document.ids, 0..document.ids.len()),
        "user: Hi there<|endoftext|>\nassistant: Hello you<|endoftext|>\nuser: Bye<|endoftext|>\n\
         assistant: So long<|endoftext|>\n"
    );
    // The space belongs to the first word's token, which has bytes of the response.
    assert_eq!(trained(&place, document), [" Hello you<|endoftext|>\n", " So long<|endoftext|>\n"]);
    place.put("copy/chat_template.jinja", TEMPLATE.replace("message.content", "messages[-1].content"));
    let refused = place.run("tokenize --model copy --input in.jsonl --output out --overwrite");
    refused.fails(&["in.jsonl:1", "chat_template.jinja", "cannot be told apart"]);
    let other = place.run("score --model tiny --input in.jsonl --output -");
    other.fails(&["in.jsonl:1", "tiny has no chat template"]);
}

#[test]
fn the_same_shards_whatever_the_threads_and_the_compression() {
    let place = Place::new();
    tokenize(&place, "--input sample.jsonl --output one --threads 1 --shard-tokens 500").done();
    place.put("copy.jsonl.gz", crate::formats::gzip(&place.bytes("sample.jsonl")));
    tokenize(&place, "--input copy.jsonl.gz --output out --threads 3 --shard-tokens 500").done();
    let shards = open(&place).manifest().shards.clone();
    assert!(shards.len() > 2 && shards.iter().any(|shard| shard.tokens <= 500));
    for shard in &shards {
        for name in [shard.file.clone(), shard.file.replace(".bin", ".ends")] {
            assert_eq!(place.bytes(&format!("one/{name}")), place.bytes(&format!("out/{name}")), "{name}");
        }
    }
    assert_eq!(open(&place).documents(), place.read("sample.jsonl").lines().count() as u64);
}

#[test]
fn an_output_is_whole_or_not_there() {
    let place = Place::with_input("{\"text\": \"good\"}\n{\"text\": 7}\n");
    tokenize(&place, "--input in.jsonl --output out").fails(&["in.jsonl:2", "field `text`"]);
    let message = TokenShards::open(&place.path("out")).unwrap_err().to_string();
    assert!(message.contains("no tokens.json"), "{message}");
    place.put("in.jsonl", "{\"input_ids\": [4096]}");
    tokenize(&place, "--input in.jsonl --output out")
        .fails(&["in.jsonl:1", "id 4096: expected less than 4096"]);
    place.put("in.jsonl", "{\"text\": \"good\"}\n");
    tokenize(&place, "--input in.jsonl --output out").done();
    tokenize(&place, "--input in.jsonl --output out").fails(&["tokens.json", "exists already"]);
    tokenize(&place, "--input in.jsonl --output out --overwrite").done();
    assert_eq!(open(&place).documents(), 1);
}

#[test]
fn wrong_usage() {
    let place = Place::with_input("{\"text\": \"x\"}\n");
    let refused = |words: &str, status: i32, part: &str| {
        let outcome = place.run(&format!("tokenize {words}"));
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
        assert!(!place.path("out").exists());
    };
    refused("", 2, "missing --model");
    refused("--model tiny --input in.jsonl --output -", 2, "cannot be `-`");
    refused("--model tiny --input in.jsonl --output out --prompt-field q", 2, "--response-field");
    refused("--model tiny --input in.jsonl --output out --shard-tokens 0", 2, "--shard-tokens");
    refused("--model none/such --input in.jsonl --output out", 1, "none/such");
    refused("--model tiny --input none.jsonl --output out", 1, "none.jsonl");
    refused("--model tiny --input in.jsonl --output in.jsonl", 1, "not a folder");
    refused("--model tiny --input . --output out", 1, "contains the output");
    let words = "--input in.jsonl --output out --prompt-field q --response-field text";
    tokenize(&place, words).fails(&["in.jsonl:1", "field `q` not found"]);
}

#[test]
fn a_killed_run_leaves_nothing_that_opens_and_nothing_in_the_way() {
    let place = Place::new();
    let mut command =
        place.command("tokenize --model tiny --input - --output out --shard-tokens 5000 --quiet");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than are encoded at a time; the input stays open.
    stdin.write_all(&b"{\"text\": \"one two three\"}\n".repeat(5000)).unwrap();
    while !place.path("out/shard-00000.bin").exists() {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let message = TokenShards::open(&place.path("out")).unwrap_err().to_string();
    assert!(message.contains("never finished"), "{message}");
    tokenize(&place, "--input sample.jsonl --output out").done();
    assert_eq!(open(&place).documents(), place.read("sample.jsonl").lines().count() as u64);
}
