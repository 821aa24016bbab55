// Spark in Scala: a query writes clicks into a stream, exactly once; another one reads them; SQL has the last word.
//
// Needs a coordinator (`bowstring serve`) and the jar, which is in the wheel:
//
//   jar=$(python -c 'import bowstring.streaming as streaming; print(streaming.jar())')
//   spark-submit --jars "$jar" --class Clicks clicks.jar grpc://127.0.0.1:8815

import java.nio.file.Files

import org.apache.spark.sql.SparkSession
import org.apache.spark.sql.streaming.Trigger

object Clicks {
  def main(arguments: Array[String]): Unit = {
    val Array(url) = arguments
    val spark = SparkSession.builder.appName("clicks").config("spark.ui.enabled", "false").getOrCreate()
    import spark.implicits._

    val checkpoint = Files.createTempDirectory("clicks").toString
    val clicks = spark.readStream
      .format("rate-micro-batch")
      .option("rowsPerBatch", 1000)
      .load()
      .select(($"value" % 7).as("user"), $"timestamp".as("at"))

    clicks.writeStream
      .format("bowstring")
      .option("url", url)
      .option("stream", "clicks")
      .option("partitions", 2)
      .option("routing", "hash(user)")
      .option("checkpointLocation", s"$checkpoint/out")
      .trigger(Trigger.AvailableNow)
      .start()
      .awaitTermination()

    spark.readStream
      .format("bowstring")
      .option("url", url)
      .option("stream", "clicks")
      .load()
      .writeStream
      .format("parquet")
      .option("path", s"$checkpoint/clicks")
      .option("checkpointLocation", s"$checkpoint/back")
      .trigger(Trigger.AvailableNow)
      .start()
      .awaitTermination()

    // A batch read is of what is visible now; through a catalog it is SQL.
    spark.conf.set("spark.sql.catalog.bowstring", "io.bowstring.spark.BowstringCatalog")
    spark.conf.set("spark.sql.catalog.bowstring.url", url)
    val users = spark.sql("SELECT count(DISTINCT user) FROM bowstring.clicks").as[Long].head()
    val rows = spark.read.parquet(s"$checkpoint/clicks").count()
    println(s"$rows clicks of $users users")
    spark.stop()
  }
}
