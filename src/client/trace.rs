//! The trace that a caller works in: its calls say so, by W3C Trace Context.

use http::HeaderValue;

use super::Error;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// Where a caller is in a trace of its own. An epoch's trace links to the context in which it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(HeaderValue);

impl TraceContext {
    /// Reads the header `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header).
    ///
    /// # Errors
    /// `invalid_argument` if the text is none of version 00.
    pub fn new(traceparent: &str) -> Result<Self, Error> {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_id = |text: &str, digits: usize| text.len() == digits && is_hex(text) && text.bytes().any(|digit| digit != b'0');
        let parts: Vec<_> = traceparent.split('-').collect();
        match parts[..] {
            ["00", trace, span, flags] if is_id(trace, 32) && is_id(span, 16) && flags.len() == 2 && is_hex(flags) => {}
            _ => return Err(refused(traceparent)),
        }
        HeaderValue::from_str(traceparent).map(Self).map_err(|_| refused(traceparent))
    }

    /// Runs `work`; the calls that it makes itself, and not in other tasks, carry this context.
    pub async fn carried_by<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self.0, work).await
    }
}

/// What the current task's calls carry, if anything: `traceparent`.
pub(super) fn current() -> Option<HeaderValue> {
    CURRENT.try_with(Clone::clone).ok()
}

fn refused(given: &str) -> Error {
    Error::invalid(format!(
        "traceparent is {given:?}, no context of version 00; write 00-, 32 hexadecimal digits, -, 16 of them, -, and 2 of them, in lower case"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn calls_carry_it_while_the_work_runs() {
        let context = TraceContext::new(GIVEN).expect("is one");
        assert_eq!(context.carried_by(async { current() }).await.expect("carried"), GIVEN);
        assert_eq!(current(), None);
    }

    #[test]
    fn what_is_no_context_is_refused_by_what_it_should_be() {
        let zeros = GIVEN.replace("b7ad6b7169203331", "0000000000000000");
        for bad in ["", "00", &GIVEN[1..], &GIVEN.to_uppercase(), &format!("{GIVEN}-"), &GIVEN.replace("00-", "01-"), &zeros] {
            let error = TraceContext::new(bad).expect_err(bad).to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
        }
    }
}
