# The results table of all cells, and the laws fitted to it.
rule table:
    input:
        lambda wildcards: RUN.inputs(f"results/table/{wildcards.key}.parquet"),
    output:
        "results/table/{key}.parquet",
    log:
        "logs/table/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"


rule laws:
    input:
        lambda wildcards: RUN.inputs(f"results/laws/{wildcards.key}.json"),
    output:
        "results/laws/{key}.json",
    log:
        "logs/laws/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
