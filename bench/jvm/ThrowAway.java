import java.util.Map;
import java.util.Set;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.catalog.SupportsWrite;
import org.apache.spark.sql.connector.catalog.Table;
import org.apache.spark.sql.connector.catalog.TableCapability;
import org.apache.spark.sql.connector.catalog.TableProvider;
import org.apache.spark.sql.connector.expressions.Transform;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.LogicalWriteInfo;
import org.apache.spark.sql.connector.write.PhysicalWriteInfo;
import org.apache.spark.sql.connector.write.Write;
import org.apache.spark.sql.connector.write.WriteBuilder;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.connector.write.streaming.StreamingDataWriterFactory;
import org.apache.spark.sql.connector.write.streaming.StreamingWrite;
import org.apache.spark.sql.execution.arrow.ArrowWriter;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.ArrowUtils;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * A streaming sink that makes Arrow of its rows, with what Spark ships, and throws it away: the floor of every sink that does it so, and
 * what the JVM sink is measured against.
 */
public final class ThrowAway implements TableProvider {
  private static final int BATCH_ROWS = 65_536;

  @Override
  public boolean supportsExternalMetadata() {
    return true;
  }

  @Override
  public StructType inferSchema(CaseInsensitiveStringMap options) {
    throw new UnsupportedOperationException("a writer brings its schema");
  }

  @Override
  public Table getTable(StructType schema, Transform[] partitioning, Map<String, String> properties) {
    return new Sink(schema);
  }

  private record Sink(StructType schema) implements SupportsWrite {
    @Override
    public String name() {
      return "throw-away";
    }

    @Override
    public Set<TableCapability> capabilities() {
      return Set.of(TableCapability.STREAMING_WRITE, TableCapability.ACCEPT_ANY_SCHEMA);
    }

    @Override
    public WriteBuilder newWriteBuilder(LogicalWriteInfo info) {
      return new WriteBuilder() {
        @Override
        public Write build() {
          return new Write() {
            @Override
            public StreamingWrite toStreaming() {
              return new Streaming(info.schema());
            }
          };
        }
      };
    }
  }

  private record Streaming(StructType schema) implements StreamingWrite {
    @Override
    public StreamingDataWriterFactory createStreamingWriterFactory(PhysicalWriteInfo info) {
      return new Factory(schema);
    }

    @Override
    public boolean useCommitCoordinator() {
      return false;
    }

    @Override
    public void commit(long epoch, WriterCommitMessage[] messages) {}

    @Override
    public void abort(long epoch, WriterCommitMessage[] messages) {}
  }

  private record Factory(StructType schema) implements StreamingDataWriterFactory {
    @Override
    public DataWriter<InternalRow> createWriter(int partition, long task, long epoch) {
      return new Writer(schema);
    }
  }

  private record Done() implements WriterCommitMessage {}

  private static final class Writer implements DataWriter<InternalRow> {
    private final BufferAllocator allocator = ArrowUtils.rootAllocator().newChildAllocator("throw-away", 0, Long.MAX_VALUE);
    private final VectorSchemaRoot root;
    private final ArrowWriter writer;
    private int rows;

    Writer(StructType schema) {
      root = VectorSchemaRoot.create(ArrowUtils.toArrowSchema(schema, "UTC", true, false, false), allocator);
      writer = ArrowWriter.create(root);
    }

    @Override
    public void write(InternalRow row) {
      writer.write(row);
      if (++rows >= BATCH_ROWS) {
        finish();
      }
    }

    private void finish() {
      writer.finish();
      writer.reset();
      rows = 0;
    }

    @Override
    public WriterCommitMessage commit() {
      finish();
      return new Done();
    }

    @Override
    public void abort() {}

    @Override
    public void close() {
      root.close();
      allocator.close();
    }
  }
}
