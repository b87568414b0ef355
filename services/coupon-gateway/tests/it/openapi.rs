//! The OpenAPI document against the service: every address is in it, and answers can be held against it.

use std::{collections::BTreeSet, sync::Mutex};

use reqwest::Method;
use serde_json::Value;
use testkit::{World, openapi::Description};

use crate::gateway::{Answer, Gateway};

/// An operation, a status, and the code of an error; the code of anything else is empty.
pub type Case = (String, u16, String);

/// The document of a running gateway, and the answers that were held against it.
pub struct Contract {
    description: Description,
    given: Mutex<BTreeSet<Case>>,
}

/// One operation of the document.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    pub path: &'a str,
    pub method: &'a str,
    pub described: &'a Value,
}

impl Operation<'_> {
    pub fn id(&self) -> &str {
        self.described["operationId"].as_str().unwrap()
    }

    /// The codes of the errors that are described.
    pub fn codes(&self) -> BTreeSet<String> {
        self.cases().into_iter().map(|(.., code)| code).filter(|code| !code.is_empty()).collect()
    }

    /// The schema that is named for the body of its requests.
    pub fn body(&self) -> Option<&str> {
        self.described["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str()?.rsplit('/').next()
    }

    fn cases(&self) -> BTreeSet<Case> {
        let responses = self.described["responses"].as_object().unwrap();
        let of_status = |(status, response): (&String, &Value)| -> Vec<Case> {
            let status: u16 = status.parse().unwrap();
            let codes = &response["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"];
            match codes.as_array() {
                Some(codes) => {
                    codes.iter().map(|code| (self.id().to_owned(), status, code.as_str().unwrap().to_owned())).collect()
                }
                None => vec![(self.id().to_owned(), status, String::new())],
            }
        };
        responses.iter().flat_map(of_status).collect()
    }
}

impl Contract {
    pub async fn of(gateway: &Gateway) -> Self {
        let answer = gateway.get("/openapi.json").await;
        let contract = Self { description: Description::new(answer.json()), given: Mutex::default() };
        contract.hold("GET", "/openapi.json", &answer);
        contract
    }

    pub const fn document(&self) -> &Value {
        self.description.document()
    }

    pub fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.document()["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().iter().map(move |(method, described)| Operation { path, method, described })
            })
            .collect()
    }

    /// The operation with this name.
    pub fn operation(&self, id: &str) -> Operation<'_> {
        self.operations().into_iter().find(|operation| operation.id() == id).unwrap_or_else(|| panic!("no operation {id}"))
    }

    /// Asserts that an answer is as described: its status, its headers, its content type and its body.
    pub fn hold(&self, method: &str, path: &str, answer: &Answer) {
        let found = self.description.deviations(method, path, answer.told());
        assert!(found.is_empty(), "{}; {:?}", found.join("\n"), answer.headers);
        let Some((path, _)) = self.description.path(path) else { return };
        let Some(operation) =
            self.operations().into_iter().find(|known| known.path == path && known.method.eq_ignore_ascii_case(method))
        else {
            return;
        };
        let problem = answer.headers.get("content-type").is_some_and(|value| value == "application/problem+json");
        let code = if problem { answer.problem().1 } else { String::new() };
        self.given.lock().unwrap().insert((operation.id().to_owned(), answer.status, code));
    }

    /// Asserts that a value is as a schema in the document says.
    pub fn hold_value(&self, schema: &Value, value: &Value, told: &str) {
        let faults = self.description.value_deviations(schema, value);
        assert!(faults.is_empty(), "{faults:?} in {value}: {told}");
    }

    /// What is described and was not given yet.
    pub fn missing(&self) -> BTreeSet<Case> {
        let given = self.given.lock().unwrap();
        self.operations().iter().flat_map(Operation::cases).filter(|case| !given.contains(case)).collect()
    }
}

/// Addresses in the source of a handler table: every text there that begins with a slash.
fn addresses(source: &str, below: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let texts = source.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/'));
    texts.filter(|text| *text != below).map(|text| format!("{below}{text}")).collect()
}

#[tokio::test]
async fn every_address_is_described_and_every_described_one_is_there() {
    let world = World::new("addresses").await;
    let gateway = Gateway::start(&world).await;
    let contract = Contract::of(&gateway).await;
    let described: BTreeSet<String> = contract.operations().iter().map(|operation| operation.path.to_owned()).collect();
    let mut built = addresses(include_str!("../../src/routes.rs"), "");
    built.extend(addresses(include_str!("../../src/admin/handlers.rs"), "/v1/admin"));
    built.extend(addresses(include_str!("../../src/openapi/mod.rs"), ""));
    built.extend(["/health/live", "/health/ready", "/metrics"].map(str::to_owned));
    assert_eq!(described, built);

    let fill =
        |path: &str| path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/");
    for path in &described {
        let url = format!("{}{}", gateway.url, fill(path));
        let answer = Answer::of(gateway.client.request(Method::DELETE, url).send().await.unwrap()).await;
        contract.hold("DELETE", path, &answer);
        assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()), "{path}");
        let allowed = answer.headers["allow"].to_str().unwrap().split(", ").filter(|method| *method != "HEAD");
        let methods: Vec<String> = contract
            .operations()
            .iter()
            .filter(|operation| operation.path == path)
            .map(|operation| operation.method.to_uppercase())
            .collect();
        assert_eq!(allowed.collect::<BTreeSet<_>>(), methods.iter().map(String::as_str).collect(), "{path}");
    }
    for path in ["/", "/v1", "/v1/coupons", "/v1/admin/nothing", "/v2/coupons/c", "/v1/coupons/c/requests/"] {
        let answer = gateway.get(path).await;
        contract.hold("GET", path, &answer);
        assert_eq!(answer.problem(), (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_served() {
    let world = World::new("document").await;
    let gateway = Gateway::start(&world).await;
    let contract = Contract::of(&gateway).await;
    assert_eq!(contract.document()["openapi"], "3.1.0");
    assert_eq!(contract.document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    let schemas = contract.document()["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name} is no JSON schema");
        for example in schema["examples"].as_array().into_iter().flatten() {
            contract.hold_value(schema, example, name);
        }
    }
    let etag = gateway.get("/openapi.json").await.headers["etag"].clone();
    let request = gateway.client.get(format!("{}/openapi.json", gateway.url)).header("if-none-match", etag);
    let known = Answer::of(request.send().await.unwrap()).await;
    contract.hold("GET", "/openapi.json", &known);
    assert_eq!(known.status, 304);

    let page = gateway.get("/docs").await;
    contract.hold("GET", "/docs", &page);
    let foreign = ["http://", "https://", "src=", "@import", "url("];
    assert!(foreign.iter().all(|word| !page.text.contains(word)), "the page needs something from elsewhere");
    assert!(page.text.contains("/openapi.json") && page.headers["content-security-policy"].to_str().unwrap().contains("'self'"));
}

#[tokio::test]
#[should_panic(expected = "the body is {")]
async fn a_field_that_is_not_described_is_found() {
    let world = World::new("undescribed").await;
    let gateway = Gateway::start(&world).await;
    let contract = Contract::of(&gateway).await;
    let mut answer = gateway.get("/health/live").await;
    answer.text = answer.text.replacen('{', r#"{"more":1,"#, 1);
    contract.hold("GET", "/health/live", &answer);
}
