# Cholesky factors of what a model's linears see, shared by all formats.
rule factorize:
    input:
        missing_parents("results/factorize/{label}/{key}.safetensors"),
    output:
        update("results/factorize/{label}/{key}.safetensors"),
    log:
        "logs/factorize/{label}/{key}.log",
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
