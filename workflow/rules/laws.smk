# The results table of all cells, and the laws fitted to it.
rule table:
    input:
        missing_parents("results/table/{key}.parquet"),
    output:
        update("results/table/{key}.parquet"),
    log:
        "logs/table/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"


rule laws:
    input:
        missing_parents("results/laws/{key}.json"),
    output:
        update("results/laws/{key}.json"),
    log:
        "logs/laws/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
