package io.bowstring.spark;

import java.util.Map;
import java.util.function.Supplier;
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow;
import org.apache.spark.sql.connector.write.WriterCommitMessage;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.sql.util.CaseInsensitiveStringMap;

/**
 * Attempts of one task that Spark would not let meet on one host: a speculative copy that ends as its original does, one that comes when
 * its epoch is over, one of a driver that was taken for dead. It writes what became of each, a line each.
 */
public final class Attempts {
  private static final StructType SCHEMA = StructType.fromDDL("id BIGINT");
  private static final int ROWS = 3;

  private final String[] options;
  private final SinkPlan plan;

  private Attempts(String url) {
    options = Options.of(new CaseInsensitiveStringMap(Map.of("url", url, "stream", "s")));
    plan = SinkPlan.prepare(options, SCHEMA);
  }

  /** Argument: the coordinator's URL. */
  public static void main(String[] arguments) {
    new Attempts(arguments[0]).run();
  }

  private void run() {
    EpochIdentity first = new EpochIdentity("query", "run 1", 0);
    WriterCommitMessage original = staged(first, 10);
    WriterCommitMessage copy = staged(first, 20);
    plan.commit(first, new WriterCommitMessage[] {copy});
    plan.commit(first, new WriterCommitMessage[] {original});

    EpochIdentity second = new EpochIdentity("query", "run 1", 1);
    TaskWriter late = writer(second);
    plan.commit(second, new WriterCommitMessage[] {staged(second, 30)});
    tell("late", () -> TaskResult.receipt(commit(late, 40)) == null ? "nothing to commit" : "a receipt");

    EpochIdentity third = new EpochIdentity("query", "run 1", 2);
    TaskWriter orphan = writer(third);
    write(orphan, 50);
    plan.abort(third);
    plan.abort(third);
    tell("orphan", () -> commit(orphan, 60).toString());
    tell("too late", () -> staged(third, 70).toString());

    EpochIdentity again = new EpochIdentity("query", "run 2", 2);
    plan.commit(again, new WriterCommitMessage[] {staged(again, 80), TaskResult.of(null)});
    tell("zombie", () -> staged(new EpochIdentity("query", "run 1", 3), 90).toString());
    tell("zombie's driver", () -> {
      plan.commit(new EpochIdentity("query", "run 1", 3), new WriterCommitMessage[0]);
      return "committed";
    });
  }

  private static void tell(String who, Supplier<String> what) {
    String became;
    try {
      became = what.get();
    } catch (BowstringException error) {
      became = error.code();
    }
    System.out.println(who + ": " + became);
  }

  private TaskWriter writer(EpochIdentity identity) {
    return new TaskWriter(plan, identity, 0, false);
  }

  private WriterCommitMessage staged(EpochIdentity identity, long from) {
    return commit(writer(identity), from);
  }

  private static WriterCommitMessage commit(TaskWriter writer, long from) {
    try {
      write(writer, from);
      return writer.commit();
    } finally {
      writer.close();
      writer.close();
    }
  }

  private static void write(TaskWriter writer, long from) {
    for (long id = from; id < from + ROWS; id++) {
      writer.write(new GenericInternalRow(new Object[] {id}));
    }
  }
}
