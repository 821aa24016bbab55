package io.bowstring.spark;

import org.apache.spark.sql.connector.write.BatchWrite;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.SupportsTruncate;
import org.apache.spark.sql.connector.write.Write;
import org.apache.spark.sql.connector.write.WriteBuilder;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;
import org.apache.spark.sql.internal.connector.SupportsStreamingUpdateAsAppend;

/**
 * A write to a stream. Output modes update and complete append what they give: a consumer sees which epoch it is of. A batch write cannot
 * overwrite.
 */
final class StreamWriteBuilder implements WriteBuilder, SupportsTruncate, SupportsStreamingUpdateAsAppend {
  private final LogicalWriteInfo info;
  private final String[] options;
  private boolean truncates;

  StreamWriteBuilder(LogicalWriteInfo info, String[] options) {
    this.info = info;
    this.options = options;
  }

  @Override
  public WriteBuilder truncate() {
    truncates = true;
    return this;
  }

  @Override
  public Write build() {
    return new Write() {
      @Override
      public String description() {
        return "bowstring";
      }

      @Override
      public StreamingWrite toStreaming() {
        return RealTimeMode.isAsked(options, info.queryId()) ? RealTimeSink.of(info, options) : StreamSink.streaming(info, options);
      }

      @Override
      public BatchWrite toBatch() {
        if (truncates) {
          throw new BowstringException(
              "invalid_argument",
              false,
              "a stream cannot be overwritten; use mode(\"append\"), or delete the stream and create it again");
        }
        return new BatchSink(info, options);
      }
    };
  }
}
