//! Which trace something is in: W3C Trace Context.

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use ring::digest::{SHA256, digest};
use tonic::metadata::MetadataMap;

use crate::engine::{Epoch, ProducerId, StreamId};
use crate::shared::random;

/// The context of an epoch's own span: the first 16 and the next 8 bytes of the SHA-256 of what names the epoch, so that everybody who
/// knows it knows them.
pub(super) fn of_epoch(stream: StreamId, producer: &ProducerId, epoch: Epoch) -> SpanContext {
    let hashed = digest(&SHA256, format!("bowstring epoch\n{stream}\n{producer}\n{epoch}").as_bytes());
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&hashed.as_ref()[..16]);
    span.copy_from_slice(&hashed.as_ref()[16..24]);
    SpanContext::new(TraceId::from_bytes(trace), SpanId::from_bytes(span), TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// Whether it is the one of so many that is sampled: by its id, so that all say the same of a trace.
pub(super) fn is_sampled(context: &SpanContext, one_in: u64) -> bool {
    let [.., a, b, c, d, e, f, g, h] = context.trace_id().to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).is_multiple_of(one_in)
}

/// The context of a new span in the same trace.
pub(super) fn within(context: &SpanContext) -> SpanContext {
    let span = SpanId::from_bytes(random::number().max(1).to_be_bytes());
    SpanContext::new(context.trace_id(), span, context.trace_flags(), false, TraceState::NONE)
}

/// As the header `traceparent` has it.
pub(super) fn traceparent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// What a call's caller works at, if it says so in `traceparent`; a header that is none is nobody's fault and no context.
pub(in crate::server) fn of_caller(metadata: &MetadataMap) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract(&Headers(metadata));
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

struct Headers<'a>(&'a MetadataMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(producer: &str, epoch: u64) -> SpanContext {
        of_epoch(StreamId(7), &ProducerId::new(producer).expect("a name"), Epoch(epoch))
    }

    #[test]
    fn an_epoch_has_one_context_for_ever() {
        assert_eq!(of("query", 5), of("query", 5));
        for other in [of("query", 6), of("other", 5), of_epoch(StreamId(8), &ProducerId::new("query").expect("a name"), Epoch(5))] {
            assert_ne!(other.trace_id(), of("query", 5).trace_id());
        }
        // Written in docs/tracing.md, where others can check theirs by it.
        assert_eq!(traceparent(&of("query", 5)), "00-1dc034a2971fadf8341c29e3faeae61c-ac77bec42bedae8f-01");
    }

    #[test]
    fn one_in_so_many_is_sampled() {
        let sampled = |one_in| (0..10_000).filter(|epoch| is_sampled(&of("query", *epoch), one_in)).count();
        assert_eq!(sampled(1), 10_000);
        // Six standard deviations of a binomial distribution about 1,000.
        assert!((820..1_180).contains(&sampled(10)), "{}", sampled(10));
    }

    #[test]
    fn a_callers_context_is_read_and_a_text_that_is_none_is_none() {
        let of_caller = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("traceparent", tonic::metadata::MetadataValue::from_static(text));
            of_caller(&metadata).map(|context| traceparent(&context))
        };
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(of_caller(given).as_deref(), Some(given));
        for bad in ["", "00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-nonsense-01"]
        {
            assert_eq!(of_caller(bad), None, "{bad}");
        }
    }
}
