//! OpenAPI document, made from the handlers, and an HTML page, made from the document.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Server,
};

use super::ServerState;
use super::page::Page;

const ABOUT: &str = "Listens to a voice recording and estimates which emotion it carries, how old the \
    speaker sounds and which gender. Every answer whose status is 400 or more is \
    `{\"error\": {\"code\", \"message\"}}`. Where the server was started with a key, send it as \
    `Authorization: Bearer KEY`. These are voice-based estimates of how a recording sounds; they are \
    not to be used for decisions about people.";

/// Returns the document without routes.
pub fn base() -> OpenApi {
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let info = InfoBuilder::new()
        .title("maeum")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(
            LicenseBuilder::new().name("MIT OR Apache-2.0").build(),
        ))
        .build();
    OpenApiBuilder::new()
        .info(info)
        // The relative server address also holds behind a proxy that adds a path prefix.
        .servers(Some([Server::new(".")]))
        .components(Some(
            ComponentsBuilder::new().security_scheme("key", key).build(),
        ))
        .build()
}

/// Returns the routes `/openapi.json` and `/docs`.
pub fn routes(api: &OpenApi) -> Router<Arc<ServerState>> {
    let document = serde_json::to_value(api).expect("all keys are strings");
    let json: Arc<str> = document.to_string().into();
    let answer = async move || ([(CONTENT_TYPE, "application/json")], json.to_string());
    let page = Page {
        path: "/docs",
        html: html(&document).into(),
        policy: "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    };
    Router::new()
        .route("/openapi.json", get(answer))
        .merge(page.route())
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}h2{margin-top:2.5rem;border-top:1px solid #bbb;padding-top:1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;\
border-bottom:1px solid #ddd}code,pre{font-family:ui-monospace,monospace;background:#f2f2f2}pre{padding:.8rem;\
overflow-x:auto}@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}code,pre{background:#2a2a2a}\
td,th{border-color:#444}}";

const EXAMPLES: &str = "\
curl -F file=@recording.wav http://127.0.0.1:9999/v1/audio/emotion
curl -H 'Content-Type: audio/wav' --data-binary @recording.wav 'http://127.0.0.1:9999/v1/audio/emotion?response_format=csv'
curl -d path_dir=./ -d wav_name=recording.wav http://127.0.0.1:9999/";

/// Returns the document as an HTML page.
fn html(document: &Value) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>maeum: HTTP interface</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main><h1>maeum: HTTP interface</h1><p>{}</p>\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a></p><pre>{}</pre>",
        text(&document["info"]["description"]),
        escape(EXAMPLES),
    );
    for (path, methods) in entries(&document["paths"]) {
        for (method, operation) in entries(methods) {
            route(&mut page, path, method, operation);
        }
    }
    page.push_str("<h2>Shapes</h2>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        shape(&mut page, name, schema);
    }
    page + "</main></body></html>\n"
}

fn route(page: &mut String, path: &str, method: &str, operation: &Value) {
    add(
        page,
        format_args!(
            "<h2><code>{} {}</code></h2><p>{} {}</p>",
            escape(&method.to_uppercase()),
            escape(path),
            text(&operation["summary"]),
            text(&operation["description"]),
        ),
    );
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("<h3>Query</h3><table><tr><th>Name<th>Type<th>Meaning");
        for p in parameters {
            row(
                page,
                &text(&p["name"]),
                &type_of(&p["schema"]),
                &text(&p["description"]),
            );
        }
        page.push_str("</table>");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        page.push_str("<h3>Body</h3><table><tr><th>Content type<th>Shape<th>");
        for (kind, content) in content {
            row(page, &escape(kind), &type_of(&content["schema"]), "");
        }
        page.push_str("</table>");
    }
    page.push_str("<h3>Answers</h3><table><tr><th>Status<th>Shape<th>Meaning");
    for (status, response) in entries(&operation["responses"]) {
        let kinds: Vec<String> = entries(&response["content"])
            .map(|(kind, content)| format!("{}: {}", escape(kind), type_of(&content["schema"])))
            .collect();
        row(
            page,
            &escape(status),
            &kinds.join("<br>"),
            &text(&response["description"]),
        );
    }
    page.push_str("</table>");
}

fn shape(page: &mut String, name: &str, schema: &Value) {
    add(
        page,
        format_args!(
            "<h3 id=\"{0}\">{0}</h3><p>{1}</p><table><tr><th>Name<th>Type<th>Meaning",
            escape(name),
            text(&schema["description"]),
        ),
    );
    for (name, property) in entries(&schema["properties"]) {
        let name = format!("<code>{}</code>", escape(name));
        row(
            page,
            &name,
            &type_of(property),
            &text(&property["description"]),
        );
    }
    page.push_str("</table>");
}

fn row(page: &mut String, first: &str, second: &str, third: &str) {
    add(page, format_args!("<tr><td>{first}<td>{second}<td>{third}"));
}

fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

/// Returns the type of a schema as HTML, with a link to a named schema.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for any in ["oneOf", "anyOf", "allOf"] {
        if let Some(of) = schema[any].as_array() {
            let names: Vec<String> = of.iter().map(type_of).collect();
            return names.join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", type_of(&schema["items"])),
        Value::String(name) if name == "object" && schema["additionalProperties"].is_object() => {
            format!("{} by name", type_of(&schema["additionalProperties"]))
        }
        Value::String(name) => escape(name),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().map(text).collect();
            names.join(" or ")
        }
        _ => "bytes".into(),
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Returns a string as HTML, with `code` for backquotes; empty for other values.
fn text(value: &Value) -> String {
    let parts = value.as_str().unwrap_or_default().split('`');
    parts
        .enumerate()
        .map(|(i, part)| match i % 2 {
            0 => escape(part),
            _ => format!("<code>{}</code>", escape(part)),
        })
        .collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_document_becomes_markup() {
        let hostile = serde_json::json!({"paths": {"/<b>": {"get": {
            "summary": "<script>`a<i>`\"&", "responses": {"<": {"description": "<u>"}}}}}});
        let page = html(&hostile);
        assert!(page.contains("&lt;script&gt;<code>a&lt;i&gt;</code>&quot;&amp;"));
        for tag in ["<b>", "<script>", "<i>", "<u>"] {
            assert!(!page.contains(tag), "{tag}");
        }
    }
}
