//! A bucket: signed requests for it, and lists of what is in it.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{self, HeaderName};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode, Url};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::actions::list_objects_v2::ListObjectsContent;
use rusty_s3::{Credentials, UrlStyle};

use super::error;
use super::url::BucketUrl;
use crate::backend::client::{
    ClientOptions, Endpoint, HttpUrl, ObjectClient, RequestError, transport,
};
use crate::error::{Error, ErrorKind, Result};

/// How long a signed URL is good for. An attempt makes its own.
const LASTS: Duration = Duration::from_secs(15 * 60);

/// The longest answer that a list may be.
const LIST_MAX: u64 = 16 << 20;

/// A bucket, and who asks for it.
#[derive(Clone)]
pub(super) struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    location: BucketUrl,
}

/// One request: what is signed of it.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// None for the bucket itself.
    pub(super) key: Option<&'a str>,
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) headers: Vec<(&'a str, String)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, key: &'a str) -> Self {
        Self {
            method,
            key: Some(key),
            query: Vec::new(),
            headers: Vec::new(),
        }
    }
}

/// The client and the bucket for a location.
pub(super) fn prepare(location: &BucketUrl, access: &ClientOptions) -> Result<(Client, Bucket)> {
    let account = access.aws.account()?;
    let style = match &account.endpoint {
        // A server of one's own has no host name for each bucket, and AWS's
        // certificates do not fit names with dots.
        Some(_) => UrlStyle::Path,
        None if location.bucket.contains('.') => UrlStyle::Path,
        None => UrlStyle::VirtualHost,
    };
    let region = account.region;
    let endpoint = account
        .endpoint
        .unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let wrong = || {
        Error::new(ErrorKind::Invalid, "the endpoint of S3 is not an address")
            .with_hint("for example AWS_ENDPOINT_URL_S3=https://s3.example")
    };
    let address: HttpUrl = endpoint.parse().map_err(|_| wrong())?;
    // Whoever asks several servers that one redirects to must sign for each.
    let client = transport::build(&address, access, Policy::none())?;
    let url: Url = address.folder().clone();
    let bucket = rusty_s3::Bucket::new(url, style, location.bucket.clone(), region);
    let inner = Inner {
        bucket: bucket.map_err(|_| wrong())?,
        credentials: account.credentials,
        location: location.clone(),
    };
    let bucket = Bucket {
        inner: Arc::new(inner),
    };
    Ok((client, bucket))
}

impl Bucket {
    /// A request with its signature, made now.
    pub(super) fn request(&self, client: &Client, call: &Call<'_>) -> RequestBuilder {
        let Inner {
            bucket,
            credentials,
            location,
        } = &*self.inner;
        let url = match call.key {
            Some(key) => bucket.object_url(&format!("{}{key}", location.prefix)),
            None => bucket.base_url().clone(),
        };
        let mut query = call.query.clone();
        query.sort_unstable();
        let headers = call.headers.iter();
        let mut headers: Vec<(&str, &str)> = headers.map(|(n, v)| (*n, v.as_str())).collect();
        headers.sort_unstable();
        let method = match call.method {
            Method::HEAD => rusty_s3::Method::Head,
            Method::PUT => rusty_s3::Method::Put,
            Method::POST => rusty_s3::Method::Post,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let url = rusty_s3::signing::sign(
            &jiff::Timestamp::now(),
            method,
            url,
            credentials.key(),
            credentials.secret(),
            credentials.token(),
            bucket.region(),
            LASTS.as_secs(),
            query.iter().copied(),
            headers.iter().copied(),
        );
        let mut request = client.request(call.method.clone(), url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request
    }

    /// The prefix of all keys.
    #[cfg(feature = "write")]
    pub(super) fn prefix(&self) -> &str {
        &self.inner.location.prefix
    }

    /// The address of the server, and of the bucket there.
    #[cfg(feature = "write")]
    pub(super) fn server(&self) -> &str {
        self.inner.bucket.base_url().as_str()
    }

    /// An object as the source of a copy. Keys are plain, so nothing is encoded.
    #[cfg(feature = "write")]
    pub(super) fn source(&self, key: &str) -> String {
        let BucketUrl { bucket, prefix } = &self.inner.location;
        format!("/{bucket}/{prefix}{key}")
    }

    /// What is below a prefix of keys, `enough` of it; with `flat`, only what is
    /// directly there.
    pub(super) fn list(
        &self,
        server: &ObjectClient,
        prefix: &str,
        flat: bool,
        enough: usize,
    ) -> Result<Vec<ListObjectsContent>> {
        let shown = self.describe();
        let whole = format!("{}{prefix}", self.inner.location.prefix);
        let (mut found, mut token): (Vec<ListObjectsContent>, Option<String>) = (Vec::new(), None);
        loop {
            let mut call = Call {
                key: None,
                ..Call::new(Method::GET, "")
            };
            call.query = vec![
                ("list-type", "2"),
                ("encoding-type", "url"),
                ("prefix", &whole),
            ];
            if flat {
                call.query.push(("delimiter", "/"));
            }
            if let Some(token) = &token {
                call.query.push(("continuation-token", token));
            }
            let page = server.exchange(
                &format!("list {prefix} in {shown}"),
                &|client| Ok(self.request(client, &call)),
                &mut |response, _| {
                    if response.status() != StatusCode::OK {
                        return Err(error::of(&shown, false, response));
                    }
                    let text = read(response)?;
                    ListObjectsV2::parse_response(&text)
                        .map_err(|_| RequestError::transient("the server's list makes no sense"))
                },
            )?;
            for mut object in page.contents {
                // What is not below the prefix was not asked for.
                let key = object.key.strip_prefix(&self.inner.location.prefix);
                if let Some(key) = key.map(str::to_owned) {
                    object.key = key;
                    found.push(object);
                }
            }
            for folder in page.common_prefixes {
                let key = folder.prefix.strip_prefix(&self.inner.location.prefix);
                if let Some(key) = key.map(|key| key.trim_end_matches('/').to_owned()) {
                    found.push(ListObjectsContent {
                        key,
                        etag: None,
                        last_modified: None,
                        owner: None,
                        size: None,
                        storage_class: None,
                    });
                }
            }
            // A server that gives the same token again would never end.
            let next = &page.next_continuation_token;
            if next.is_none() || *next == token || found.len() >= enough {
                return Ok(found);
            }
            token = page.next_continuation_token;
        }
    }
}

/// A text that is not too long.
pub(super) fn read(response: Response) -> Result<String, RequestError> {
    let mut text = String::new();
    let read = response.take(LIST_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| RequestError::of_body(&error))?;
    if text.len() as u64 > LIST_MAX {
        return Err(RequestError::permanent("the server's answer is too long"));
    }
    Ok(text)
}

impl Endpoint for Bucket {
    fn get(&self, client: &Client, key: &str) -> RequestBuilder {
        self.request(client, &Call::new(Method::GET, key))
    }

    #[cfg(feature = "put")]
    fn put_new(&self, client: &Client, key: &str) -> RequestBuilder {
        let mut call = Call::new(Method::PUT, key);
        call.headers.push(("if-none-match", "*".to_owned()));
        self.request(client, &call)
    }

    #[cfg(feature = "put")]
    fn refused_put(&self, response: Response) -> RequestError {
        if response.status() == StatusCode::NOT_IMPLEMENTED {
            return error::no_conditions(&self.describe());
        }
        error::of(&self.describe(), true, response)
    }

    fn same(&self) -> HeaderName {
        header::IF_MATCH
    }

    fn refused(&self, response: Response) -> RequestError {
        error::of(&self.describe(), false, response)
    }

    fn absent(&self, response: Response) -> Option<RequestError> {
        error::no_bucket(&self.describe(), response)
    }

    fn list(&self, server: &ObjectClient, prefix: &str) -> Result<Option<Vec<String>>> {
        let listed = Self::list(self, server, prefix, true, usize::MAX)?;
        let mut keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        keys.retain(|key| crate::backend::is_key(key));
        keys.sort_unstable();
        Ok(Some(keys))
    }

    fn describe(&self) -> String {
        self.inner.location.to_string()
    }
}
