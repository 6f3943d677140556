# How well losses are predicted where they are left out.
rule predictor:
    input:
        missing_parents("results/predictor/{key}.json"),
    output:
        update("results/predictor/{key}.json"),
    log:
        "logs/predictor/{key}.log",
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
